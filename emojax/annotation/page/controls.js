// Controls of the filter: text, quadrants, a range with histogram per attribute, categories, speakers.

const BINS = 40;

class FilterControls {
  // onChange(criteria) is called at every change.
  constructor(annotation, onChange) {
    this.annotation = annotation;
    this.onChange = onChange;
    this.criteria = emptyCriteria();
    const { categories, segments, attributes } = annotation;
    this.quadrants = new Map();
    this.makeQuadrants();
    this.inputs = Object.fromEntries(attributes.map((name) => [name, this.makeRange(name)]));
    this.emotions = this.makeChips('emotions', categories, segments.emotion, categoryTokens(categories));
    this.speakers = this.makeChips('speakers', segments.speakers, segments.speaker, null);
    byId('text').closest('label').hidden = !annotation.hasText;
    byId('text').addEventListener('input', () => this.change());
    byId('centre').addEventListener('change', () => this.pressedQuadrant() && this.applyQuadrant(this.pressedQuadrant()));
    byId('reset').addEventListener('click', () => this.reset());
  }

  makeQuadrants() {
    const available = ['valence', 'activation'].every((name) => this.annotation.attributes.includes(name));
    byId('presets').hidden = !available || !this.annotation.segments.count;
    for (const quadrant of QUADRANTS) {
      const button = element('button', { type: 'button', className: 'chip', text: quadrant.label, 'aria-pressed': 'false' });
      button.addEventListener('click', () => {
        if (this.pressedQuadrant() === quadrant) this.setRanges({ valence: [null, null], activation: [null, null] });
        else this.applyQuadrant(quadrant);
      });
      this.quadrants.set(quadrant, button);
      byId('presets').querySelector('.chips').append(button);
    }
  }

  pressedQuadrant() {
    return QUADRANTS.find((quadrant) => this.quadrants.get(quadrant).getAttribute('aria-pressed') === 'true');
  }

  applyQuadrant(quadrant) {
    this.setRanges(quadrantRanges(quadrant, centres(this.annotation, byId('centre').value)));
  }

  setRanges(ranges) {
    for (const [name, range] of Object.entries(ranges)) {
      range.forEach((limit, side) => (this.inputs[name].limits[side].value = limit ?? ''));
    }
    this.change();
  }

  makeRange(name) {
    const [low, high] = this.annotation.model.scale;
    const limits = ['at least', 'at most'].map((text, side) => {
      const input = element('input', { type: 'number', step: 'any', placeholder: side ? high : low, 'aria-label': `${name} ${text}` });
      input.addEventListener('input', () => this.change());
      return input;
    });
    const canvas = element('canvas', { 'aria-hidden': 'true' });
    const box = element('div', { className: 'histogram' }, canvas);
    const heading = element('legend', { text: name });
    byId('ranges').append(element('fieldset', { className: 'range' }, heading, limits[0], element('span', { text: 'to' }), limits[1], box));
    this.connectBrush(name, box);
    const counts = new Uint32Array(BINS);
    for (const value of this.annotation.segments.values[name]) {
      if (value !== null) counts[Math.min(Math.max(Math.floor(((value - low) / (high - low)) * BINS), 0), BINS - 1)]++;
    }
    return { limits, box, counts };
  }

  // Dragging over a histogram selects a range; a click removes it.
  connectBrush(name, box) {
    const [low, high] = this.annotation.model.scale;
    const valueOf = (event) => {
      const frame = box.getBoundingClientRect();
      return round2(low + Math.min(Math.max((event.clientX - frame.left) / frame.width, 0), 1) * (high - low));
    };
    let origin = null;
    box.addEventListener('pointerdown', (event) => {
      box.setPointerCapture(event.pointerId);
      origin = { x: event.clientX, value: valueOf(event) };
    });
    box.addEventListener('pointermove', (event) => {
      if (origin === null || Math.abs(event.clientX - origin.x) < 3) return;
      this.setRanges({ [name]: [origin.value, valueOf(event)].sort((a, b) => a - b) });
    });
    box.addEventListener('pointerup', (event) => {
      if (origin !== null && Math.abs(event.clientX - origin.x) < 3) this.setRanges({ [name]: [null, null] });
      origin = null;
    });
    box.addEventListener('pointercancel', () => (origin = null));
  }

  makeChips(id, names, column, tokens) {
    const all = names.map((name, value) => ({ name, value, token: tokens?.[value] }));
    if (column.includes(-1)) all.push({ name: 'none', value: -1, token: '--none' });
    byId(id).hidden = !names.length || all.length < 2;
    return all.map(({ name, value, token }) => {
      const count = column.filter((found) => found === value).length;
      const box = element('input', { type: 'checkbox', checked: false });
      const chip = element('label', { className: 'chip' }, box, element('span', { text: name }), element('small', { text: count.toLocaleString('en') }));
      if (token) chip.style.setProperty('--colour', `var(${token})`);
      chip.classList.toggle('coloured', Boolean(token));
      box.addEventListener('change', () => this.change());
      byId(id).querySelector('.chips').append(chip);
      return { box, value };
    });
  }

  change() {
    const limit = (input) => (input.value === '' || !Number.isFinite(input.valueAsNumber) ? null : input.valueAsNumber);
    const chosen = (chips) => {
      const values = chips.filter(({ box }) => box.checked).map(({ value }) => value);
      return values.length ? new Set(values) : null;
    };
    this.criteria = {
      ranges: Object.fromEntries(Object.entries(this.inputs).map(([name, { limits }]) => [name, limits.map(limit)])),
      emotions: chosen(this.emotions),
      speakers: chosen(this.speakers),
      text: byId('text').value,
    };
    this.showQuadrant();
    this.onChange(this.criteria);
  }

  showQuadrant() {
    const centre = centres(this.annotation, byId('centre').value);
    const { ranges } = this.criteria;
    for (const [quadrant, button] of this.quadrants) {
      const wanted = ranges.valence && ranges.activation ? quadrantRanges(quadrant, centre) : {};
      const equal = (name) => wanted[name]?.every((limit, side) => limit === ranges[name][side]);
      button.setAttribute('aria-pressed', String(Boolean(equal('valence') && equal('activation'))));
    }
  }

  reset() {
    byId('text').value = '';
    for (const { box } of [...this.emotions, ...this.speakers]) box.checked = false;
    this.setRanges(Object.fromEntries(this.annotation.attributes.map((name) => [name, [null, null]])));
  }

  drawHistograms(palette) {
    const [low, high] = this.annotation.model.scale;
    for (const [name, { box, counts }] of Object.entries(this.inputs)) {
      const { context, width, height } = prepare(box, 34);
      const largest = Math.max(...counts, 1);
      const [from, to] = this.criteria.ranges[name] ?? [null, null];
      counts.forEach((count, bin) => {
        const centre = low + ((bin + 0.5) / BINS) * (high - low);
        const inside = (from === null || centre >= from) && (to === null || centre <= to);
        context.fillStyle = css(palette.attributes[name], inside ? 0.9 : 0.22);
        const size = count ? Math.max((count / largest) * (height - 2), 1) : 0;
        context.fillRect((bin / BINS) * width, height - size, width / BINS - 1, size);
      });
    }
  }
}
