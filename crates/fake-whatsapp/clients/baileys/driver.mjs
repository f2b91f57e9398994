// Drives Baileys against the loopback server: node driver.mjs CONTROL_URL [OTHER_ACCOUNT MESSAGES]
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import pino from 'pino';
import { card, control, vcard } from './control.mjs';

// libsignal prints sessions to the console, private keys included.
for (const chatter of ['info', 'error', 'warn']) console[chatter] = () => {};

// Before Baileys is loaded: a bad signature throws.
const signatures = { good: 0, bad: 0 };
const require = createRequire(import.meta.url);
const curve = require('libsignal/src/curve.js');
const { verify } = require('curve25519-js');
curve.verifySignature = (key, message, signature) => {
  const good = verify(key.length === 33 ? key.slice(1) : key, message, signature);
  signatures[good ? 'good' : 'bad']++;
  if (!good) throw new Error('bad signature');
  return true;
};
const { default: makeWASocket, WA_CERT_DETAILS, useMultiFileAuthState } = await import('baileys');

const [controlUrl, other, count] = process.argv.slice(2);
const whatsapp = control(controlUrl);
const account = { account: '551150002000', lid: '900000000000020', device: 12 };
const jid = (phone) => `${phone}@s.whatsapp.net`;
const contact = '553199990001';
const typed = '5531999990001';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'recado-baileys-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));

let heard;
let socket;
let saveCreds;
const open = async (server) => {
  heard = { connection: [], messages: [], acks: [], receipts: [], ...(heard && { messages: heard.messages }) };
  const auth = await useMultiFileAuthState(folder);
  saveCreds = auth.saveCreds;
  socket = makeWASocket({
    waWebSocketUrl: server.url,
    auth: auth.state,
    logger: pino({ level: 'silent' }),
    version: [2, 3000, 1],
    syncFullHistory: false,
    // Else it holds events back for up to 20 seconds after the first login.
    shouldSyncHistoryMessage: () => false,
  });
  const now = heard;
  socket.ev.on('creds.update', saveCreds);
  socket.ev.on('connection.update', (update) => now.connection.push(update));
  socket.ev.on('messages.upsert', ({ messages }) => now.messages.push(...messages));
  // No event tells of a plain ack.
  socket.ws.on('CB:ack,class:message', (node) => now.acks.push(node.attrs));
  socket.ws.on('CB:receipt', (node) => now.receipts.push(node.attrs));
};

const until = async (what, found, seconds = 30) => {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await found();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}; heard ${JSON.stringify(heard)}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};
const isOpen = () => until('the connection', () => heard.connection.find((update) => update.connection === 'open'));
const isClosed = async () => {
  const update = await until('the end', () => heard.connection.find((update) => update.connection === 'close'));
  return update.lastDisconnect.error.output?.statusCode;
};
const message = (id) => until('a message', () => heard.messages.find((message) => message.key.id === id));
const ack = (id) => until('an ack', () => heard.acks.find((ack) => ack.id === id));
const receipts = (id, count) =>
  until('receipts', () => {
    const found = heard.receipts.filter((receipt) => receipt.id === id);
    return found.length >= count && found.map((receipt) => receipt.type ?? 'delivered');
  });
const copies = async (id) => (await whatsapp('/inbox')).filter((received) => received.id === id);

let name;
const check = async (what, run) => {
  name = what;
  const seen = await run();
  console.log(JSON.stringify({ check: what, ok: true, ...seen }));
};
const expect = (found, wanted) => {
  const [got, want] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (got !== want) throw new Error(`${got} instead of ${want}`);
};

const checks = async () => {
  const server = await whatsapp('/info');
  WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(server.certificate_root, 'base64');
  await whatsapp('/contact', { phone: contact, lid: '900000000000002' });
  await whatsapp('/alias', { asked: typed, canonical: contact });

  await check('linked by a QR code', async () => {
    await open(server);
    const { qr } = await until('a QR code', () => heard.connection.find((update) => update.qr));
    await whatsapp('/scan', { qr, ...account });
    await until('being linked', () => heard.connection.find((update) => update.isNewLogin));
    expect(await isClosed(), 515);
    await saveCreds();
  });
  await check('logged in', async () => {
    await open(server);
    await isOpen();
    await until('the end of the queue', () => heard.connection.find((update) => update.receivedPendingNotifications));
  });
  await check('a number is known by another', async () => {
    const found = await socket.onWhatsApp(typed);
    expect(found.map((found) => [found.jid, found.exists]), [[jid(contact), true]]);
    expect((await socket.onWhatsApp('15550000000')).filter((found) => found.exists), []);
  });
  await check('a card is acked, read and confirmed', async () => {
    const id = '3EB0BA11E15000000001';
    await socket.sendMessage(jid(contact), card('Maria', '5531988887777'), { messageId: id });
    expect((await ack(id)).error, undefined);
    expect(await receipts(id, 2), ['delivered', 'read']);
    const [received] = await copies(id);
    const wanted = [account.account, contact, 'Maria', vcard('Maria', '5531988887777'), true];
    const { from, to, display_name, own_phone_saw_it } = received;
    expect([from, to, display_name, received.vcard, own_phone_saw_it], wanted);
  });
  await check('a refusal is heard', async () => {
    await whatsapp('/faults', { refusal: { code: 463, times: 1 } });
    const { key } = await socket.sendMessage(jid(contact), card('Maria', '5531988887777'));
    expect((await ack(key.id)).error, '463');
    expect(await copies(key.id), []);
  });
  await check('a contact writes a text and a card', async () => {
    const said = { contact, account: account.account };
    const text = await whatsapp('/say', { ...said, text: 'oi' });
    expect((await message(text.id)).message.conversation, 'oi');
    const ana = await whatsapp('/say', { ...said, name: 'Ana', vcard: vcard('Ana', '5531977777777') });
    expect((await message(ana.id)).message.contactMessage.displayName, 'Ana');
    await until('both to be confirmed', async () => (await whatsapp('/state', account)).unconfirmed === 0);
  });
  await check('a card goes again after a hang-up, and what came meanwhile was kept', async () => {
    const id = '3EB0BA11E15000000002';
    await whatsapp('/faults', { hang_up_before_ack: 1 });
    await socket.sendMessage(jid(contact), card('Lost', '5531933333333'), { messageId: id }).catch(() => {});
    await isClosed();
    const said = await whatsapp('/say', { contact, account: account.account, text: 'while you were out' });
    await open(server);
    await isOpen();
    expect((await message(said.id)).message.conversation, 'while you were out');
    await socket.sendMessage(jid(contact), card('Lost', '5531933333333'), { messageId: id });
    expect((await ack(id)).error, undefined);
    expect((await copies(id)).length, 1);
  });
  if (other) {
    await check('messages of another client are read', async () => {
      console.log(JSON.stringify({ check: 'ready', ok: true, account: account.account }));
      const from = (message) => message.key.remoteJid?.startsWith(other) || message.key.remoteJidAlt?.startsWith(other);
      const received = await until('its messages', () => {
        const found = heard.messages.filter(from);
        return found.length >= Number(count) && found;
      });
      expect(received.filter((message) => message.messageStubParameters), []);
      return { read: received.map((message) => message.message) };
    });
    await check('another client confirms a card', async () => {
      const id = '3EB0BA11E15000000003';
      await socket.sendMessage(jid(other), card('Zé', '5531955555555'), { messageId: id });
      // From the phone, which reads, and from the client: "inactive" where nobody looks at its screen.
      const delivered = ['delivered', 'inactive'];
      expect((await receipts(id, 3)).filter((kind) => delivered.includes(kind)).length, 2);
    });
  }
  await check('replaced', async () => {
    await whatsapp('/replace', account);
    expect(await isClosed(), 440);
  });
  await check('logged out', async () => {
    await open(server);
    await isOpen();
    await whatsapp('/log_out', account);
    expect(await isClosed(), 401);
  });
  await check('every signature was good', async () => {
    expect([signatures.bad, signatures.good > 0], [0, true]);
    expect((await whatsapp('/counters')).undecryptable, 0);
    return signatures;
  });
};

try {
  await checks();
  process.exit(0);
} catch (error) {
  console.log(JSON.stringify({ check: name, ok: false, error: String(error.stack) }));
  process.exit(1);
}
