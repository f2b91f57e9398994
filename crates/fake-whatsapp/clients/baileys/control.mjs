// The control port of the loopback server.
export const control = (url) => async (path, asked = {}) => {
  const answer = await fetch(url + path, { method: 'POST', body: JSON.stringify(asked) });
  const body = await answer.json();
  if (!answer.ok) throw new Error(`${path}: ${body.error}`);
  return body;
};

export const vcard = (name, number) =>
  `BEGIN:VCARD\nVERSION:3.0\nN:;${name};;;\nFN:${name}\nTEL;type=CELL;waid=${number}:+${number}\nEND:VCARD`;

export const card = (name, number) => ({
  contacts: { displayName: name, contacts: [{ displayName: name, vcard: vcard(name, number) }] },
});
