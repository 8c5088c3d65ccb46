// Keys of the page and the dialog that lists them: one table for both.

// Table of [keys, description, action]; "Shift+" is part of a key where letters or arrows have two actions.
function connectKeys(table) {
  const actions = new Map(table.flatMap(([keys, , action]) => keys.map((key) => [key, action])));
  byId('keys').append(
    ...table.map(([keys, description]) => {
      const names = keys.flatMap((key, i) => [...(i ? [' or '] : []), element('kbd', { text: nameOfKey(key) })]);
      return element('tr', {}, element('th', { scope: 'row' }, ...names), element('td', { text: description }));
    }),
  );
  byId('open-help').addEventListener('click', () => byId('help').showModal());
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || byId('help').open) return;
    // The slider keeps its keys, as every slider has them.
    if (!byId('single-keys').checked && event.target !== byId('plot')) return;
    if (usesKey(event.target, event.key)) return;
    const letter = event.key.length === 1 && event.key.toUpperCase() !== event.key.toLowerCase();
    const key = letter ? event.key.toLowerCase() : event.key;
    const shifted = event.shiftKey && (letter || key.startsWith('Arrow')) ? `Shift+${key}` : key;
    const action = actions.get(shifted);
    if (!action) return;
    event.preventDefault();
    action();
  });
}

// Whether an element has its own use of a key: text of inputs, Space of buttons, arrows of lists.
function usesKey(target, key) {
  if (target.matches('input[type="search"], input[type="number"]')) return true;
  if (target.matches('select')) return key !== '?';
  if (target.matches('button, summary, input, a')) return key === ' ' || key === 'Enter';
  return false;
}

function nameOfKey(key) {
  const names = { ' ': 'Space', ArrowLeft: '←', ArrowRight: '→', 'Shift+ArrowLeft': 'Shift ←', 'Shift+ArrowRight': 'Shift →' };
  return names[key] ?? key.replace('+', key.length > 1 ? ' ' : '+');
}
