// A device as a client would write it: the signalling of HPlus on one side, WebRTC on the other.
"use strict";

class Device {
  constructor(url) {
    this.heard = [];
    this.waiting = []; // candidates that came before the description they belong to
    this.socket = new WebSocket(url);
    this.socket.onmessage = (event) => this.hear(JSON.parse(event.data));
    this.connected = new Promise((resolve, reject) => {
      this.socket.onopen = resolve;
      this.socket.onerror = () => reject(new Error("the socket was refused"));
    });
  }

  send(type, fields) {
    this.socket.send(JSON.stringify({ type, ...fields }));
  }

  async hear(message) {
    this.heard.push(message);
    if (message.type === "callInitiated") await this.ringsThere(message);
    if (message.type === "callInitiate") await this.take(message);
    if (message.type === "callAccept") await this.describe(message.answer);
    if (message.type === "callSignal") await this.add(message.candidate);
    if (message.type === "callEnd") this.stop();
  }

  async prepare(iceServers) {
    this.peer = new RTCPeerConnection({ iceServers });
    this.peer.onicecandidate = ({ candidate }) => candidate && this.tell(candidate);
    this.peer.ontrack = ({ streams }) => (document.getElementById("other").srcObject = streams[0]);
    this.media = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
    document.getElementById("own").srcObject = this.media;
    this.media.getTracks().forEach((track) => this.peer.addTrack(track, this.media));
  }

  // The offer goes with the call, so candidates found before the callId is known wait.
  async call(userId) {
    this.other = userId;
    await this.prepare([]);
    await this.peer.setLocalDescription(await this.peer.createOffer());
    this.send("callInitiate", { receiverId: userId, callType: "video", offer: this.peer.localDescription.sdp });
  }

  async ringsThere({ callId, iceServers }) {
    this.callId = callId;
    this.peer.setConfiguration({ iceServers });
    (this.early || []).forEach((candidate) => this.tell(candidate));
  }

  async take({ callId, callerId, offer, iceServers }) {
    [this.callId, this.other] = [callId, callerId];
    await this.prepare(iceServers);
    await this.peer.setRemoteDescription({ type: "offer", sdp: offer });
    await this.peer.setLocalDescription(await this.peer.createAnswer());
    this.send("callAccept", { callId, answer: this.peer.localDescription.sdp });
    await this.addWaiting();
  }

  async describe(answer) {
    await this.peer.setRemoteDescription({ type: "answer", sdp: answer });
    await this.addWaiting();
  }

  tell(candidate) {
    if (!this.callId) return (this.early = [...(this.early || []), candidate]);
    this.send("callSignal", {
      callId: this.callId, targetUserId: this.other, signalType: "iceCandidate", candidate: candidate.toJSON(),
    });
  }

  async add(candidate) {
    if (!this.peer || !this.peer.remoteDescription) return this.waiting.push(candidate);
    await this.peer.addIceCandidate(candidate);
  }

  async addWaiting() {
    for (const candidate of this.waiting.splice(0)) await this.peer.addIceCandidate(candidate);
  }

  hangUp() {
    this.send("callEnd", { callId: this.callId });
    this.stop();
  }

  stop() {
    this.peer.close();
    this.media.getTracks().forEach((track) => track.stop());
  }

  // What has arrived from the other side.
  async arrived() {
    const received = { framesDecoded: 0, audioPackets: 0 };
    if (!this.peer) return received;
    for (const report of (await this.peer.getStats()).values()) {
      if (report.type !== "inbound-rtp") continue;
      if (report.kind === "video") received.framesDecoded = report.framesDecoded || 0;
      if (report.kind === "audio") received.audioPackets = report.packetsReceived || 0;
    }
    return received;
  }

  // Waits until so many of each have arrived.
  async arrives(count) {
    for (;;) {
      const received = await this.arrived();
      if (Math.min(...Object.values(received)) >= count) return received;
      await new Promise((done) => setTimeout(done, 100));
    }
  }

  words() {
    return this.heard.map((message) => message.type);
  }
}
