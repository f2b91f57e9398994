// A receiver of Recado's webhooks in Node.js 18 or later, without packages:
//   WEBHOOK_SECRET=whsec_… PORT=3000 node receiver.mjs
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const TOLERANCE = 5 * 60; // seconds
const MAX_BODY = 1024 * 1024; // bytes; an event has at most 256 KiB

const secret = process.env.WEBHOOK_SECRET ?? "";
const key = secret.startsWith("whsec_")
  ? Buffer.from(secret.slice("whsec_".length), "base64")
  : Buffer.from(secret, "utf8");

// Returns whether Recado signed these bytes within the last minutes. `body` holds the bytes as they came: JSON that was parsed
// and written again may differ.
function isSigned(headers, body) {
  const id = headers["webhook-id"] ?? "";
  const timestamp = headers["webhook-timestamp"] ?? "";
  if (!/^[0-9]{1,12}$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE) return false;
  const expected = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  // There are two signatures for 24 hours after the secret was replaced.
  return (headers["webhook-signature"] ?? "").split(" ").some((part) => {
    if (!part.startsWith("v1,")) return false;
    const signature = Buffer.from(part.slice("v1,".length), "base64");
    return signature.length === expected.length && timingSafeEqual(signature, expected);
  });
}

// An event may come more than once. Keep `event.id` under a unique index together with what the event changes.
function handle(event) {
  console.log(`verified ${event.event} ${event.id}`);
}

const server = createServer((request, response) => {
  const parts = [];
  let length = 0;
  request.on("data", (part) => {
    length += part.length;
    if (length > MAX_BODY) {
      response.writeHead(413).end(() => request.destroy());
    } else {
      parts.push(part);
    }
  });
  request.on("end", () => {
    const body = Buffer.concat(parts);
    if (length > MAX_BODY) return;
    if (!isSigned(request.headers, body)) {
      console.log("refused");
      response.writeHead(401).end();
      return;
    }
    handle(JSON.parse(body.toString("utf8")));
    // Answer within 15 seconds; do slow work later.
    response.writeHead(204).end();
  });
});

if (key.length === 0) throw new Error("WEBHOOK_SECRET is not set");
server.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => console.log("listening"));
