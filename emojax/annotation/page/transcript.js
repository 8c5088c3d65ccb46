// Transcript: a row per segment. Words become elements of their own only in rows near the visible part, so that
// 30,000 words cost little, and the text of all rows can be found by the browser's own search.

const PAUSE_AFTER_SCROLL = 4000;
const LOW_PROBABILITY = 50;

class Transcript {
  constructor(annotation, seek) {
    this.annotation = annotation;
    this.seek = seek;
    this.list = byId('rows');
    this.current = -1;
    this.word = -1;
    this.focused = 0;
    this.scrolled = -Infinity;
    this.near = new Set();
    this.searched = '';
    const tokens = categoryTokens(annotation.categories);
    this.rows = Array.from({ length: annotation.segments.count }, (_, i) => this.makeRow(i, tokens));
    this.list.append(...this.rows);
    if (this.rows.length) this.buttonOf(0).tabIndex = 0;
    if (!annotation.hasText) byId('transcript-title').textContent = 'Segments';
    const observer = new IntersectionObserver(
      (entries) => {
        entries.forEach((entry) => this.setNear(entry));
        this.markFound();
      },
      { root: this.list, rootMargin: '300px' },
    );
    this.rows.forEach((row) => observer.observe(row));
    // Rows outside of the window have estimated heights even if they are visible in the list.
    const entered = ([{ isIntersecting }]) => isIntersecting && this.current >= 0 && this.scrolled < 0 && this.reveal(this.current);
    new IntersectionObserver(entered).observe(this.list);
    this.list.addEventListener('click', (event) => this.click(event));
    this.list.addEventListener('keydown', (event) => this.moveFocus(event));
    for (const event of ['wheel', 'touchmove', 'pointerdown']) {
      this.list.addEventListener(event, () => (this.scrolled = performance.now()), { passive: true });
    }
  }

  makeRow(i, tokens) {
    const { segments, categories, attributes } = this.annotation;
    const head = element('div', { className: 'head' });
    const time = element('button', { type: 'button', className: 'time', tabIndex: -1, text: formatTime(segments.start[i]) });
    time.setAttribute('aria-label', `Play from ${formatTime(segments.start[i], 1)}`);
    head.append(time);
    if (segments.speaker[i] >= 0) head.append(element('span', { className: 'speaker', text: segments.speakers[segments.speaker[i]] }));
    if (segments.emotion[i] >= 0) {
      const name = categories[segments.emotion[i]];
      const chance = segments.probabilities?.[name]?.[i];
      const chip = element('span', { className: 'emotion', text: chance == null ? name : `${name} ${Math.round(100 * chance)} %` });
      chip.style.setProperty('--colour', `var(${tokens[segments.emotion[i]]})`);
      head.append(chip);
    }
    const values = element('dl', { className: 'values' });
    for (const name of attributes) {
      if (segments.values[name][i] !== null) values.append(this.makeValue(name, i));
    }
    const text = element('p', { className: 'text', dir: 'auto' });
    const row = element('li', {}, head, values, text);
    row.dataset.index = i;
    this.setPlainText(row, i);
    return row;
  }

  makeValue(name, i) {
    const { segments, model } = this.annotation;
    const value = segments.values[name][i];
    const spread = segments.spread?.[name][i] ?? null;
    const title = element('dt', { title: name }, element('span', { text: name[0].toUpperCase(), 'aria-hidden': 'true' }));
    title.append(element('span', { text: name, className: 'visually-hidden' }));
    const number = element('dd', { text: value.toFixed(1), title: `${name} ${formatValue({ value, spread })}` });
    const box = element('div', {}, title, number);
    box.style.setProperty('--share', (value - model.scale[0]) / (model.scale[1] - model.scale[0]));
    box.style.setProperty('--colour', `var(--${name})`);
    return box;
  }

  buttonOf(i) {
    return this.rows[i].querySelector('.time');
  }

  setPlainText(row, i) {
    const text = row.querySelector('.text');
    const found = this.annotation.segments.text[i];
    text.hidden = found === null && !this.annotation.hasText;
    text.classList.toggle('soft', found === null);
    text.textContent = found ?? 'no transcript';
  }

  // Elements of words replace the text near the visible part, and the text them elsewhere: the layout stays.
  setNear({ target: row, isIntersecting }) {
    const i = Number(row.dataset.index);
    const words = this.annotation.segments.words[i];
    if (isIntersecting) this.near.add(row);
    else this.near.delete(row);
    if (words.length && isIntersecting !== Boolean(row.words)) this.replaceText(row, i, words, isIntersecting);
  }

  replaceText(row, i, words, isIntersecting) {
    if (!isIntersecting) {
      row.words = null;
      this.setPlainText(row, i);
      return;
    }
    const text = this.annotation.segments.text[i];
    const parts = [];
    let end = 0;
    row.words = words.map((word, k) => {
      const start = text.indexOf(word, end);
      const span = element('span', { className: 'word', text: word });
      span.dataset.word = k;
      span.classList.toggle('unsure', (this.annotation.segments.sure[i][k] ?? 100) < LOW_PROBABILITY);
      parts.push(text.slice(end, start), span);
      end = start + word.length;
      return span;
    });
    row.querySelector('.text').replaceChildren(...parts, text.slice(end));
    if (i === this.current) row.words[this.word]?.classList.add('current');
  }

  click(event) {
    const row = event.target.closest('li');
    if (!row || !getSelection().isCollapsed) return;
    const i = Number(row.dataset.index);
    const word = event.target.closest('.word');
    if (word) this.seek(this.wordStart(i, Number(word.dataset.word)));
    else if (event.target.closest('.time, .text')) this.seek(this.annotation.segments.start[i]);
    this.setFocusable(i);
  }

  wordStart(i, k) {
    // A millisecond later, so that rounding does not give the word before.
    return this.annotation.segments.start[i] + this.annotation.segments.times[i][2 * k] / 1000 + 0.001;
  }

  // Start of the next (step 1) or previous (-1) word; null without one.
  wordFrom(time, step) {
    const { segments } = this.annotation;
    const last = lastAtOrBefore(segments.start, time);
    const candidates = [];
    for (let i = Math.max(last - 20, 0); i < segments.count && i <= last + 20; i++) {
      segments.words[i].forEach((_, k) => candidates.push(this.wordStart(i, k)));
    }
    candidates.sort((a, b) => a - b);
    const at = lastAtOrBefore(candidates, time + 1e-4);
    // Within a word, the previous one is before its start.
    return candidates[step > 0 ? at + 1 : at - 1] ?? null;
  }

  setTime(time, { moved, follow }) {
    const { segments } = this.annotation;
    const i = segmentAt(segments, time);
    const word = i < 0 ? -1 : this.wordAt(i, time);
    if (i === this.current && word === this.word && !moved) return;
    if (i !== this.current) {
      this.rows[this.current]?.removeAttribute('aria-current');
      this.rows[i]?.setAttribute('aria-current', 'true');
    }
    this.rows[this.current]?.words?.[this.word]?.classList.remove('current');
    this.rows[i]?.words?.[word]?.classList.add('current');
    const changed = i !== this.current;
    [this.current, this.word] = [i, word];
    if (moved) this.scrolled = -Infinity;
    if (i >= 0 && (moved || (changed && follow && performance.now() - this.scrolled > PAUSE_AFTER_SCROLL))) this.reveal(i);
  }

  wordAt(i, time) {
    const times = this.annotation.segments.times[i];
    const offset = Math.round(1000 * (time - this.annotation.segments.start[i]));
    for (let k = times.length / 2 - 1; k >= 0; k--) {
      if (times[2 * k] <= offset) return offset < times[2 * k + 1] ? k : -1;
    }
    return -1;
  }

  // Scrolls to a row. The browser estimates heights of rows until they are near, so that a jump is corrected afterwards.
  reveal(i) {
    const near = this.scrollToRow(i, !matchMedia('(prefers-reduced-motion: reduce)').matches);
    const correct = () => i === this.current && this.scrollToRow(i, false);
    if (near) this.list.addEventListener('scrollend', correct, { once: true });
    else for (const delay of [50, 150, 400]) setTimeout(correct, delay);
  }

  // Returns whether the list scrolls smoothly.
  scrollToRow(i, smooth) {
    const row = this.rows[i];
    const [top, height] = [row.offsetTop, this.list.clientHeight]; // the list is the offset parent
    const [above, below] = [this.list.scrollTop, this.list.scrollTop + height];
    if (row.hidden || (top >= above && top + row.offsetHeight <= below - 0.15 * height)) return false;
    const near = smooth && Math.abs(top - above) < 1.5 * height;
    this.list.scrollTo({ top: top - 0.25 * height, behavior: near ? 'smooth' : 'instant' });
    return near;
  }

  setShown(mask, text) {
    this.rows.forEach((row, i) => (row.hidden = !mask[i]));
    byId('nothing').hidden = mask.includes(1);
    this.list.hidden = !mask.includes(1);
    byId('nothing').textContent = mask.length ? 'No segment meets the filter.' : 'The recording has no segments.';
    if (this.rows.length && this.rows[this.focused].hidden) this.setFocusable(mask.indexOf(1));
    this.searched = normalised(text.trim());
    this.markFound();
  }

  // Marks the text that the filter searches for in the rows near the visible part (CSS Custom Highlight API).
  markFound() {
    if (!CSS.highlights) return;
    const ranges = [];
    for (const row of this.searched ? this.near : []) {
      const text = row.querySelector('.text');
      const content = normalised(text.textContent);
      if (content.length !== text.textContent.length) continue; // positions differ
      for (let at = content.indexOf(this.searched); at >= 0; at = content.indexOf(this.searched, at + 1)) {
        ranges.push(rangeOf(text, at, at + this.searched.length));
      }
    }
    CSS.highlights.set('found', new Highlight(...ranges));
  }

  setFocusable(i) {
    if (i < 0) return;
    this.buttonOf(this.focused).tabIndex = -1;
    this.focused = i;
    this.buttonOf(i).tabIndex = 0;
  }

  // Up, Down, Home and End move the focus between the buttons of the rows that are shown.
  moveFocus(event) {
    const steps = { ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const shown = this.rows.flatMap((row, i) => (row.hidden ? [] : [i]));
    if (!shown.length) return;
    const position = lastAtOrBefore(shown, this.focused);
    const target = shown[Math.min(Math.max(position + steps[event.key], 0), shown.length - 1)];
    this.setFocusable(target);
    this.buttonOf(target).focus({ preventScroll: true });
    this.rows[target].scrollIntoView({ block: 'nearest' });
  }
}

// Range of characters of an element, whose text may be in several nodes.
function rangeOf(parent, from, to) {
  const range = new Range();
  const walker = document.createTreeWalker(parent, NodeFilter.SHOW_TEXT);
  let begin = 0;
  while (walker.nextNode()) {
    const { currentNode: node } = walker;
    const end = begin + node.length;
    if (from >= begin && from < end) range.setStart(node, from - begin);
    if (to > begin && to <= end) {
      range.setEnd(node, to - begin);
      break;
    }
    begin = end;
  }
  return range;
}
