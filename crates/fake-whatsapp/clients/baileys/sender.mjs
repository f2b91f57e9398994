// Links Baileys to an account, and sends what it is told: node sender.mjs CONTROL_URL ACCOUNT LID
// Each line of standard input is a command in JSON. Each is answered by a line, in order:
//   {"send": ADDRESS, "content": …, "options": …}   a message of sock.sendMessage
//   {"relay": ADDRESS, "message": …, "options": …}  a message in the form of the protocol
//   {"addon": USE, "of": {…}, "payload": …}         the encrypted part of an edit, a vote or a reaction
//   {"heard": COUNT}                                waits for so many messages of others
// Bytes are {"base64": …}, times {"date": milliseconds}.
import http from 'node:http';
import https from 'node:https';
import readline from 'node:readline';
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import pino from 'pino';
import { control, inMemory } from './control.mjs';

// libsignal prints sessions to the console, private keys included.
for (const chatter of ['info', 'error', 'warn']) console[chatter] = () => {};
const { default: makeWASocket, initAuthCreds, proto, WA_CERT_DETAILS } = await import('baileys');

// The media host has no certificate.
https.request = (options, heard) => http.request(options, heard);
syncBuiltinESMExports();

const [controlUrl, number, lid] = process.argv.slice(2);
const whatsapp = control(controlUrl);
const account = { account: number, lid, device: 5 };
const server = await whatsapp('/info');
WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(server.certificate_root, 'base64');

const auth = inMemory(initAuthCreds);
const sent = new Map();
const heard = [];
let acks = new Map();
let socket;
const open = () =>
  new Promise((resolve, reject) => {
    const now = makeWASocket({
      waWebSocketUrl: server.url,
      auth: auth.state,
      logger: pino({ level: 'silent' }),
      version: [2, 3000, 1],
      syncFullHistory: false,
      shouldSyncHistoryMessage: () => false,
      generateHighQualityLinkPreview: false,
      // For devices that could not decrypt it.
      getMessage: async ({ id }) => sent.get(id),
    });
    socket = now;
    now.ev.on('creds.update', auth.saveCreds);
    now.ev.on('messages.upsert', ({ messages }) => heard.push(...messages));
    now.ws.on('CB:ack,class:message', ({ attrs }) => acks.get(attrs.id)?.(attrs));
    now.ev.on('connection.update', ({ qr, connection, lastDisconnect }) => {
      if (qr) whatsapp('/scan', { qr, ...account }).catch(reject);
      if (connection === 'open') resolve();
      // The network restarts the stream after linking, and a test may cut it.
      if (connection === 'close') {
        if (lastDisconnect?.error?.output?.statusCode === 401) reject(lastDisconnect.error);
        else setTimeout(() => open().then(resolve, reject), 100);
      }
    });
  });

/// Runs a call that sends a message, and waits for the network's answer.
const acked = async (id, call) => {
  const ack = new Promise((resolve) => acks.set(id, resolve));
  await call();
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`no ack of ${id}`)), 20000));
  const { error } = await Promise.race([ack, late]);
  acks.delete(id);
  if (error) throw new Error(`refused: ${error}`);
};

const newId = () => `3EB0${crypto.randomBytes(9).toString('hex').toUpperCase()}`;

const send = async ({ send: to, content, options }) => {
  const id = options?.messageId ?? newId();
  const whole = (message) => message && proto.WebMessageInfo.fromObject(message);
  if (content.forward) content.forward = whole(content.forward);
  if (options?.quoted) options.quoted = whole(options.quoted);
  let message;
  await acked(id, async () => {
    message = await socket.sendMessage(to, content, { ...options, messageId: id });
    sent.set(id, message.message);
  });
  return { id, message };
};

const relay = async ({ relay: to, message, options }) => {
  const id = options?.messageId ?? newId();
  const whole = proto.Message.fromObject(message);
  sent.set(id, whole);
  await acked(id, () => socket.relayMessage(to, whole, { ...options, messageId: id }));
  return { id, message: { message: whole } };
};

/// As wacore::secret_enc_addon: the key is derived from the secret of the message that is changed.
const addon = ({ addon: use, of: { id, author, by, secret }, payload }) => {
  const info = Buffer.concat([id, author, by, use].map((text) => Buffer.from(text)));
  const key = Buffer.from(crypto.hkdfSync('sha256', secret, Buffer.alloc(32), info, 32));
  const iv = crypto.randomBytes(12);
  const cipher = crypto.createCipheriv('aes-256-gcm', key, iv);
  if (use === 'Poll Vote') cipher.setAAD(Buffer.from(`${id}\0${by}`));
  const types = { 'Poll Vote': 'PollVoteMessage', 'Message Edit': '', 'Enc Reaction': 'ReactionMessage' };
  const type = types[use] ? proto.Message[types[use]] : proto.Message;
  const hashes = payload.options?.map((option) => crypto.createHash('sha256').update(option).digest());
  const plain = type.encode(type.fromObject(hashes ? { selectedOptions: hashes } : payload)).finish();
  const encPayload = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  return { encPayload: encPayload.toString('base64'), encIv: iv.toString('base64') };
};

const hear = async ({ heard: count }) => {
  for (let turn = 0; heard.length < count && turn < 2000; turn++) await new Promise((next) => setTimeout(next, 10));
  return { messages: heard };
};

const revive = (_, value) => {
  if (typeof value?.base64 === 'string') return Buffer.from(value.base64, 'base64');
  return typeof value?.date === 'number' ? new Date(value.date) : value;
};
// Messages print their bytes in Base64.
const plain = (answer) => JSON.stringify(answer);

await open();
console.log(JSON.stringify({ ready: true }));
for await (const line of readline.createInterface({ input: process.stdin })) {
  try {
    const command = JSON.parse(line, revive);
    const run = [send, relay, addon, hear].find((run, at) => ['send', 'relay', 'addon', 'heard'][at] in command);
    console.log(plain(await run(command)));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error.stack) }));
  }
}
process.exit(0);
