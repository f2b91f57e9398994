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

/// Keys that nothing stores.
export const inMemory = (initAuthCreds) => {
  const kept = {};
  const get = async (type, ids) =>
    Object.fromEntries(ids.filter((id) => kept[type]?.[id] !== undefined).map((id) => [id, kept[type][id]]));
  const set = async (changes) => {
    for (const [type, values] of Object.entries(changes)) {
      kept[type] ??= {};
      for (const [id, value] of Object.entries(values)) {
        if (value == null) delete kept[type][id];
        else kept[type][id] = value;
      }
    }
  };
  return { state: { creds: initAuthCreds(), keys: { get, set } }, saveCreds: () => {} };
};
