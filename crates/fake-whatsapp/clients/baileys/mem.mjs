// What idle Baileys sockets cost in one process, each further one from FIRST (1 where it is not given) to N:
// node --expose-gc mem.mjs CONTROL_URL N [FIRST]
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import pino from 'pino';
import { card, control, inMemory } from './control.mjs';

// libsignal prints sessions to the console, private keys included.
for (const chatter of ['info', 'error', 'warn']) console[chatter] = () => {};
const { default: makeWASocket, initAuthCreds, useMultiFileAuthState, WA_CERT_DETAILS } = await import('baileys');

const [controlUrl, sockets, few] = process.argv.slice(2);
const whatsapp = control(controlUrl);
const count = Number(sockets);
const first = Number(few ?? 1);
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'recado-baileys-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));

const server = await whatsapp('/info');
WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(server.certificate_root, 'base64');
const contact = '553199990001';
await whatsapp('/contact', { phone: contact, lid: '900000000000002' });

const link = async (number) => {
  const auth = process.env.FILES === '1' ? await useMultiFileAuthState(path.join(folder, `${number}`)) : inMemory(initAuthCreds);
  const digits = String(number).padStart(5, '0');
  const account = { account: `5511400${digits}`, lid: `9000000001${digits}`, device: 3 };
  return new Promise((resolve, reject) => {
    let tries = 0;
    const open = () => {
      const socket = makeWASocket({
        waWebSocketUrl: server.url,
        auth: auth.state,
        logger: pino({ level: 'silent' }),
        version: [2, 3000, 1],
        syncFullHistory: false,
        shouldSyncHistoryMessage: () => false,
      });
      socket.ev.on('creds.update', auth.saveCreds);
      socket.ev.on('connection.update', ({ qr, connection, lastDisconnect }) => {
        if (qr) whatsapp('/scan', { qr, ...account }).catch(reject);
        if (connection === 'open') resolve(socket);
        // The network restarts the stream after linking.
        if (connection === 'close') {
          if (tries++ < 3) open();
          else reject(lastDisconnect.error);
        }
      });
    };
    open();
  });
};

const sendOne = async (socket, number) => {
  const id = `3EB0MEM${number}`;
  const acked = new Promise((resolve) => {
    socket.ws.on('CB:ack,class:message', (node) => node.attrs.id === id && resolve());
  });
  await socket.sendMessage(`${contact}@s.whatsapp.net`, card('Maria', '5531988887777'), { messageId: id });
  await acked;
};

const measure = async (number) => {
  for (let turn = 0; turn < 3; turn++) {
    await new Promise((resolve) => setTimeout(resolve, 700));
    globalThis.gc?.();
  }
  const status = fs.readFileSync('/proc/self/status', 'utf8');
  const kib = (name) => Number(status.match(new RegExp(`${name}:\\s+(\\d+)`))[1]);
  return { sockets: number, rss_kib: kib('VmRSS'), anonymous_kib: kib('RssAnon') };
};

const measured = [await measure(0)];
const open = [];
for (let number = 1; number <= count; number++) {
  const socket = await link(number);
  await sendOne(socket, number);
  open.push(socket);
  if (number === first || number === count) measured.push(await measure(number));
}
const [before, after] = measured.slice(-2);
const each = count > first ? Math.round((after.rss_kib - before.rss_kib) / (count - first)) : null;
console.log(JSON.stringify({ measured, each_further_kib: each, forced_gc: Boolean(globalThis.gc), node: process.version }));
process.exit(0);
