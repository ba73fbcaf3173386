// What a chat server costs that promises less: one INSERT for each message, both sides told through Redis.
// No mailboxes, no receipts, no replay, no rights. It speaks just enough of HPlus's protocol for chat.py.
//
//   npm install && PORT=8300 DATABASE_URL=postgres://... REDIS_URL=redis://... node server.js
"use strict";

const { randomUUID } = require("node:crypto");
const { createServer } = require("node:http");
const Redis = require("ioredis");
const { Pool } = require("pg");
const { WebSocketServer } = require("ws");

const database = new Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
const publisher = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true });
const subscriber = new Redis(process.env.REDIS_URL);
const socketsOf = new Map();

const TABLE = `CREATE TABLE IF NOT EXISTS peer_message (
  message_id uuid PRIMARY KEY, sender_id text NOT NULL, receiver_id text NOT NULL,
  hospital_id text NOT NULL, message text NOT NULL, sent_at timestamptz NOT NULL)`;
const INSERT = {
  name: "insert",
  text: "INSERT INTO peer_message VALUES ($1, $2, $3, $4, $5, $6)",
};

async function send(senderId, { receiverId, hospitalId, message }) {
  if (![receiverId, hospitalId, message].every((text) => typeof text === "string" && text)) {
    throw new Error("a field is missing");
  }
  const messageId = randomUUID();
  const timestamp = new Date();
  await database.query({ ...INSERT, values: [messageId, senderId, receiverId, hospitalId, message, timestamp] });
  const data = { messageId, senderId, receiverId, hospitalId, message, timestamp };
  const frame = JSON.stringify({ type: "newMessage", data });
  publisher.publish(senderId, frame);
  publisher.publish(receiverId, frame);
}

subscriber.on("message", (userId, frame) => {
  for (const socket of socketsOf.get(userId) ?? []) socket.send(frame);
});

async function welcome(socket, request) {
  const userId = new URL(request.url, "http://peer").searchParams.get("userId");
  if (!userId) return socket.close(4001);
  if (!socketsOf.has(userId)) socketsOf.set(userId, new Set());
  socketsOf.get(userId).add(socket);
  socket.on("close", () => socketsOf.get(userId).delete(socket));
  socket.on("message", (frame) => {
    send(userId, JSON.parse(frame)).catch((error) => socket.send(JSON.stringify({ type: "error", message: error.message })));
  });
  await subscriber.subscribe(userId);
  socket.send(JSON.stringify({ type: "connection_established", userId }));
}

const server = createServer((_, response) => response.end());
new WebSocketServer({ server, perMessageDeflate: false }).on("connection", welcome);
database.query(TABLE).then(() => server.listen(Number(process.env.PORT ?? 8300), "127.0.0.1"));
