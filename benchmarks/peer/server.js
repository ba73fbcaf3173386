// What one writes first with Node.js, ws, pg and ioredis: an INSERT for each message, both sides notified through
// Redis. No mailboxes, no receipts, no replay, no rights; positions are stored behind, many at once. It speaks just
// enough of HPlus's protocol for compare.py, which starts it.
"use strict";

const { randomUUID } = require("node:crypto");
const { createServer } = require("node:http");
const Redis = require("ioredis");
const { Pool } = require("pg");
const { WebSocketServer } = require("ws");

const database = new Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
const publisher = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true });
const subscriber = new Redis(process.env.REDIS_URL);
const POSITIONS_MS = 500; // between two writes of positions

const TABLES = `
  CREATE TABLE IF NOT EXISTS peer_message (
    message_id uuid PRIMARY KEY, sender_id text NOT NULL, receiver_id text NOT NULL,
    hospital_id text NOT NULL, message text NOT NULL, sent_at timestamptz NOT NULL);
  CREATE TABLE IF NOT EXISTS peer_emergency (
    emergency_id uuid PRIMARY KEY, requested_by text NOT NULL, hospital_id text NOT NULL, data jsonb NOT NULL);
  CREATE TABLE IF NOT EXISTS peer_position (
    user_id text NOT NULL, hospital_id text NOT NULL, lat float8 NOT NULL, lng float8 NOT NULL, at timestamptz NOT NULL);
  CREATE TABLE IF NOT EXISTS peer_latest (
    user_id text PRIMARY KEY, hospital_id text NOT NULL, lat float8 NOT NULL, lng float8 NOT NULL, at timestamptz NOT NULL)`;
const MESSAGE = { name: "message", text: "INSERT INTO peer_message VALUES ($1, $2, $3, $4, $5, $6)" };
const EMERGENCY = { name: "emergency", text: "INSERT INTO peer_emergency VALUES ($1, $2, $3, $4)" };
const GIVEN = `json_to_recordset($1) AS given(user_id text, hospital_id text, lat float8, lng float8, at timestamptz)`;
const POSITIONS = { name: "positions", text: `INSERT INTO peer_position SELECT * FROM ${GIVEN}` };
const LATEST = {
  name: "latest",
  text: `INSERT INTO peer_latest SELECT DISTINCT ON (user_id) * FROM ${GIVEN} ORDER BY user_id, at DESC
    ON CONFLICT (user_id) DO UPDATE SET lat = excluded.lat, lng = excluded.lng, at = excluded.at`,
};

// Channels: Redis is subscribed to one as long as a socket listens.

const socketsOf = new Map();

async function join(socket, channel) {
  socket.channels.add(channel);
  const known = socketsOf.get(channel);
  if (known) return known.add(socket);
  socketsOf.set(channel, new Set([socket]));
  await subscriber.subscribe(channel);
}

function leave(socket, channel) {
  const sockets = socketsOf.get(channel);
  if (!sockets?.delete(socket) || sockets.size) return;
  socketsOf.delete(channel);
  subscriber.unsubscribe(channel);
}

subscriber.on("messageBuffer", (channel, frame) => {
  for (const socket of socketsOf.get(channel.toString()) ?? []) socket.send(frame, { binary: false });
});

// Requests

let positions = [];

const handlers = {
  async sendMessage(socket, { receiverId, hospitalId, message }) {
    if (![receiverId, hospitalId, message].every((text) => typeof text === "string" && text)) {
      throw new Error("a field is missing");
    }
    const [messageId, senderId, timestamp] = [randomUUID(), socket.userId, new Date()];
    await database.query({ ...MESSAGE, values: [messageId, senderId, receiverId, hospitalId, message, timestamp] });
    const data = { messageId, senderId, receiverId, hospitalId, message, timestamp };
    const frame = JSON.stringify({ type: "newMessage", data });
    publisher.publish(`user:${senderId}`, frame);
    publisher.publish(`user:${receiverId}`, frame);
  },

  watchLocations: (socket) => join(socket, `positions:${socket.hospitalId}`),

  locationUpdate({ userId, hospitalId }, { data: { location } }) {
    if (!Number.isFinite(location.lat) || !Number.isFinite(location.lng)) throw new Error("no position");
    positions.push({ user_id: userId, hospital_id: hospitalId, lat: location.lat, lng: location.lng, at: location.timestamp });
    publisher.publish(`positions:${hospitalId}`, JSON.stringify({ type: "locationUpdate", userId, data: { location } }));
  },

  async emergencyRequest(socket, { requestId, data }) {
    const emergencyId = randomUUID();
    await database.query({ ...EMERGENCY, values: [emergencyId, socket.userId, data.hospitalId, data] });
    const alert = { type: "emergencyAlert", data: { emergencyId, requestedBy: socket.userId, ...data } };
    publisher.publish(`staff:${data.hospitalId}`, JSON.stringify(alert));
    socket.send(JSON.stringify({ type: "ack", requestId, data: { emergencyId } }));
  },
};

async function handle(socket, text) {
  try {
    const frame = JSON.parse(text);
    await handlers[frame.type]?.(socket, frame);
  } catch (error) {
    socket.send(JSON.stringify({ type: "error", message: error.message }));
  }
}

async function writePositions() {
  const written = JSON.stringify(positions);
  const count = positions.length;
  positions = [];
  if (count) {
    await database.query({ ...POSITIONS, values: [written] });
    await database.query({ ...LATEST, values: [written] });
  }
  setTimeout(writePositions, POSITIONS_MS);
}

async function welcome(socket, request) {
  const query = new URL(request.url, "http://peer").searchParams;
  const [userId, role, hospitalId] = ["userId", "role", "hospitalId"].map((name) => query.get(name));
  if (!userId || !hospitalId) return socket.close(4001);
  Object.assign(socket, { userId, hospitalId, channels: new Set() });
  socket.on("close", () => socket.channels.forEach((channel) => leave(socket, channel)));
  socket.on("message", (text) => handle(socket, text));
  await join(socket, `user:${userId}`);
  if (role !== "patient") await join(socket, `staff:${hospitalId}`);
  socket.send(JSON.stringify({ type: "connection_established", userId }));
}

const server = createServer((_, response) => response.end());
new WebSocketServer({ server, perMessageDeflate: false }).on("connection", welcome);
process.on("SIGTERM", () => process.exit(0));
database.query(TABLES).then(() => {
  writePositions();
  server.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 2048 });
});
