// Jumps to the extremes: segments in the order of an attribute, of its spread, or of the probability of a category.

class Extremes {
  constructor(annotation, seek) {
    this.annotation = annotation;
    this.seek = seek;
    this.orders = this.makeOrders();
    this.position = -1;
    this.shown = new Uint8Array(annotation.segments.count).fill(1);
    byId('extreme').append(...this.orders.map(({ label }, i) => element('option', { value: String(i), text: label })));
    byId('extreme').addEventListener('change', () => this.rank());
    byId('extreme-next').addEventListener('click', () => this.step(1));
    byId('extreme-previous').addEventListener('click', () => this.step(-1));
    byId('extremes').hidden = !this.orders.length;
    this.rank();
  }

  makeOrders() {
    const { attributes, categories, segments } = this.annotation;
    const orders = [];
    if (!segments.count) return orders;
    const first = ['valence', 'activation', 'dominance'].filter((name) => attributes.includes(name));
    for (const name of first) {
      const [low, high] = ENDS[name];
      const text = (i) => `${name} ${formatValue({ value: segments.values[name][i], spread: segments.spread?.[name][i] ?? null })}`;
      const pair = [{ label: low, values: segments.values[name], sign: 1, text }, { label: high, values: segments.values[name], sign: -1, text }];
      orders.push(...(name === 'valence' ? pair : pair.toReversed()));
    }
    for (const name of first.filter((name) => segments.spread?.[name]?.some((value) => value !== null))) {
      const values = segments.spread[name];
      orders.push({ label: `largest spread of ${name}`, values, sign: -1, text: (i) => `spread ${values[i].toFixed(2)}` });
    }
    for (const name of categories) {
      const values = segments.probabilities?.[name];
      if (values?.some((value) => value !== null)) {
        orders.push({ label: `most probable ${name}`, values, sign: -1, text: (i) => `${name} ${Math.round(100 * values[i])} %` });
      }
    }
    return orders;
  }

  setShown(mask) {
    this.shown = mask;
    this.rank();
  }

  rank() {
    this.position = -1;
    const order = this.orders[Number(byId('extreme').value)];
    const indices = [...this.shown.keys()].filter((i) => order && this.shown[i] && order.values[i] !== null);
    this.ranking = indices.sort((a, b) => order.sign * (order.values[a] - order.values[b]) || a - b);
    this.show();
  }

  step(by) {
    const last = this.ranking.length - 1;
    if (last < 0) return;
    this.position = Math.min(Math.max(this.position + by, 0), last);
    this.seek(this.annotation.segments.start[this.ranking[this.position]] + 0.001);
    this.show();
  }

  show() {
    const order = this.orders[Number(byId('extreme').value)];
    const last = this.ranking.length - 1;
    byId('extreme-next').disabled = this.position >= last;
    byId('extreme-previous').disabled = this.position <= 0;
    if (this.position < 0) {
      byId('extreme-found').textContent = last < 0 ? 'no segment' : `${(last + 1).toLocaleString('en')} segments`;
      return;
    }
    const i = this.ranking[this.position];
    const time = formatTime(this.annotation.segments.start[i], 1);
    byId('extreme-found').textContent = `${this.position + 1} of ${(last + 1).toLocaleString('en')}: ${time}, ${order.text(i)}`;
  }
}
