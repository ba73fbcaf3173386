// One connection like that of an app, identified by the session cookie of the admin site.
// It reconnects by itself with its last seq and epoch, so that nothing in between is lost.

const SHORTEST_MS = 500;
const LONGEST_MS = 15000;
const HEARTBEAT_MS = 15000;
const SILENCE_MS = 40000;
const NEVER_AGAIN = new Set([4001, 4003, 4004, 4005, 4007]);

export class Live {
  // onState(state, retryAt): "connecting", "live", "gone" or "ended"; onFrame(frame); onReady() after each connection;
  // positions are those of the hospital, or of the emergency named
  constructor({ hospitalId, emergencyId, onState, onFrame, onReady }) {
    Object.assign(this, { hospitalId, emergencyId, onState, onFrame, onReady });
    this.waitMs = SHORTEST_MS;
    this.seq = null;
    this.epoch = "";
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.retryNow());
    setInterval(() => this.checkPulse(), HEARTBEAT_MS);
    this.connect();
  }

  address() {
    const query = new URLSearchParams({ hospitalId: this.hospitalId });
    if (this.seq !== null) {
      query.set("since", this.seq);
      query.set("epoch", this.epoch);
    }
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    return `${scheme}//${location.host}/ws/board/?${query}`;
  }

  connect() {
    clearTimeout(this.timer);
    this.timer = null;
    this.onState("connecting");
    const socket = new WebSocket(this.address());
    this.socket = socket;
    this.heardAt = Date.now();
    socket.onmessage = (message) => socket === this.socket && this.hear(JSON.parse(message.data));
    socket.onclose = (closing) => socket === this.socket && this.lost(closing.code);
  }

  hear(frame) {
    this.heardAt = Date.now();
    if (typeof frame.seq === "number") this.seq = Math.max(this.seq ?? 0, frame.seq);
    if (frame.type === "connection_established") {
      if (frame.epoch !== this.epoch || !frame.recovered) this.seq = frame.lastSeq;
      this.epoch = frame.epoch;
      this.send({ type: "watchLocations", on: true, hospitalId: this.hospitalId, emergencyId: this.emergencyId });
      this.send({ type: "watchBoard", hospitalId: this.hospitalId });
    } else if (frame.type === "boardWatched") {
      this.waitMs = SHORTEST_MS;
      this.onState("live");
      this.onReady();
    }
    this.onFrame(frame);
  }

  send(frame) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  lost(code) {
    this.socket = null;
    if (NEVER_AGAIN.has(code)) {
      this.onState("ended");
      return;
    }
    const waitMs = this.waitMs * (0.75 + Math.random() / 2);
    this.waitMs = Math.min(this.waitMs * 2, LONGEST_MS);
    this.onState("gone", Date.now() + waitMs);
    this.timer = setTimeout(() => this.connect(), waitMs);
  }

  retryNow() {
    if (this.timer) this.connect();
  }

  // A dead connection may not close: without an answer for a while it is replaced.
  checkPulse() {
    if (!this.socket) return;
    if (Date.now() - this.heardAt > SILENCE_MS) {
      const socket = this.socket;
      this.lost(1006);
      socket.close();
      return;
    }
    this.send({ type: "heartbeat", timestamp: new Date().toISOString() });
  }
}
