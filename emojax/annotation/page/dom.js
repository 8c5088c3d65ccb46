// Elements of the document, and times as text.

// 75.5 -> 1:15; with `digits` 1 -> 1:15.5; hours only where there are any.
function formatTime(seconds, digits = 0) {
  const unit = 10 ** digits;
  const total = Math.floor(Math.max(seconds, 0) * unit + 1e-6);
  const [whole, part] = [Math.floor(total / unit), total % unit];
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const text = `${h ? `${h}:${String(m).padStart(2, '0')}` : m}:${String(s).padStart(2, '0')}`;
  return digits ? `${text}.${String(part).padStart(digits, '0')}` : text;
}

function element(tag, { text, ...properties } = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes('-') || name === 'role' || name === 'for') created.setAttribute(name, value);
    else created[name] = value;
  }
  if (text !== undefined) created.textContent = text;
  created.append(...children);
  return created;
}

function byId(id) {
  return document.getElementById(id);
}
