// Which segments meet the criteria of the filter.

function emptyCriteria() {
  // null: no condition. -1 in a set stands for segments without emotion or speaker.
  return { ranges: {}, emotions: null, speakers: null, text: '' };
}

// 1 for each segment that meets all criteria. A segment without a value is outside of every range.
function matchingSegments(annotation, criteria) {
  const { segments } = annotation;
  const text = normalised(criteria.text.trim());
  const mask = new Uint8Array(segments.count);
  for (let i = 0; i < segments.count; i++) {
    mask[i] =
      Object.entries(criteria.ranges).every(([name, range]) => inRange(segments.values[name][i], range)) &&
      (criteria.emotions === null || criteria.emotions.has(segments.emotion[i])) &&
      (criteria.speakers === null || criteria.speakers.has(segments.speaker[i])) &&
      (text === '' || normalised(segments.text[i] ?? '').includes(text));
  }
  return mask;
}

function inRange(value, [low, high]) {
  if (low === null && high === null) return true;
  return value !== null && (low === null || value >= low) && (high === null || value <= high);
}

function normalised(text) {
  return text.normalize('NFKC').toLocaleLowerCase();
}

// Values that separate low from high: the centre of the scale, or the median of the segments.
function centres(annotation, kind) {
  const [low, high] = annotation.model.scale;
  return Object.fromEntries(
    annotation.attributes.map((name) => {
      const values = annotation.segments.values[name].filter((value) => value !== null).sort((a, b) => a - b);
      const median = values.length ? values[values.length >> 1] : (low + high) / 2;
      return [name, kind === 'median' ? median : (low + high) / 2];
    }),
  );
}

// The quadrants of valence and activation; -1: below the centre, 1: above.
const QUADRANTS = [
  { label: 'negative and aroused', valence: -1, activation: 1 },
  { label: 'positive and aroused', valence: 1, activation: 1 },
  { label: 'negative and calm', valence: -1, activation: -1 },
  { label: 'positive and calm', valence: 1, activation: -1 },
];

function quadrantRanges(quadrant, centre) {
  const side = (name) => (quadrant[name] < 0 ? [null, round2(centre[name])] : [round2(centre[name]), null]);
  return { valence: side('valence'), activation: side('activation') };
}

function round2(value) {
  return Math.round(100 * value) / 100;
}
