// Colours of categories, attributes and segments, resolved from the style for the canvas.

// Colours by the usual names of categories; other names take the colours that remain.
const NAMED = new Map([
  ...['anger', 'angry', 'frustration'].map((name) => [name, 'anger']),
  ...['happiness', 'happy', 'joy', 'excitement', 'excited'].map((name) => [name, 'happiness']),
  ...['sadness', 'sad'].map((name) => [name, 'sadness']),
  ...['fear', 'fearful', 'anxiety'].map((name) => [name, 'fear']),
  ...['disgust', 'disgusted'].map((name) => [name, 'disgust']),
  ...['surprise', 'surprised'].map((name) => [name, 'surprise']),
  ['contempt', 'contempt'],
  ...['boredom', 'bored', 'calm'].map((name) => [name, 'boredom']),
  ['neutral', 'neutral'],
]);
const TOKENS = ['anger', 'happiness', 'sadness', 'fear', 'disgust', 'surprise', 'contempt', 'boredom', 'other', 'neutral'];

// Token of the style for each category, e.g. '--anger'.
function categoryTokens(categories) {
  const known = categories.map((name) => NAMED.get(name.toLowerCase()));
  const free = TOKENS.filter((token) => token !== 'neutral' && !known.includes(token));
  let next = 0;
  return known.map((token) => `--${token ?? (free.length ? free[next++ % free.length] : 'other')}`);
}

// Reads colours of the style as [red, green, blue]; they depend on light or dark.
function readPalette(annotation) {
  const probe = element('span', { hidden: true });
  document.body.append(probe);
  const read = (token) => {
    probe.style.color = `var(${token})`;
    return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  };
  const palette = {
    ink: read('--ink'),
    soft: read('--soft'),
    line: read('--line'),
    wave: read('--wave'),
    none: read('--none'),
    low: read('--low'),
    middle: read('--middle'),
    high: read('--high'),
    categories: categoryTokens(annotation.categories).map(read),
    attributes: Object.fromEntries(annotation.attributes.map((name) => [name, read(`--${name}`)])),
  };
  probe.remove();
  return palette;
}

// Colour of each segment: by its category ('emotion') or by an attribute on a scale from low over middle to high.
function segmentColours(annotation, palette, kind, limits) {
  const { segments } = annotation;
  return Array.from({ length: segments.count }, (_, i) => {
    if (kind === 'emotion') return palette.categories[segments.emotion[i]] ?? palette.none;
    const value = segments.values[kind]?.[i] ?? null;
    return value === null ? palette.none : scaleColour(palette, (value - limits[0]) / (limits[1] - limits[0]));
  });
}

function scaleColour(palette, share) {
  const position = Math.min(Math.max(share, 0), 1);
  const [from, to, part] =
    position < 0.5 ? [palette.low, palette.middle, 2 * position] : [palette.middle, palette.high, 2 * position - 1];
  return from.map((channel, i) => Math.round(channel + part * (to[i] - channel)));
}

function css([red, green, blue], alpha = 1) {
  return `rgb(${red} ${green} ${blue} / ${alpha})`;
}

// Black or white, whichever has the larger contrast (at least 4.5 for every colour).
function inkOn(colour) {
  const [red, green, blue] = colour.map((channel) => {
    const c = channel / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? '#000' : '#fff';
}
