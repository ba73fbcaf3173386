// The console: one connection, the frames sent and received. Nothing received is inserted as markup.
"use strict";

const $ = (id) => document.getElementById(id);
const samples = JSON.parse($("samples").textContent);
const HEARTBEAT_MS = 25000;
const LOG_ENTRIES = 500;
let socket = null;
let heart = null;

function show(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
  $("send").disabled = state !== "open";
  $("connect").textContent = state === "closed" ? "Connect" : "Disconnect";
}

function note(direction, text, frame) {
  const entry = document.createElement("li");
  const head = document.createElement("p");
  const time = document.createElement("time");
  const title = document.createElement("strong");
  time.textContent = new Date().toLocaleTimeString("en-GB");
  title.textContent = frame && frame.type ? frame.type : text;
  head.append(time, title);
  entry.className = frame && frame.type === "error" ? `${direction} error` : direction;
  entry.dataset.type = frame && frame.type ? frame.type : "";
  entry.append(head);
  if (frame) {
    const details = document.createElement("pre");
    details.textContent = JSON.stringify(frame, null, 2);
    entry.append(details);
  }
  $("log").prepend(entry);
  while ($("log").children.length > LOG_ENTRIES) $("log").lastChild.remove();
}

function isHidden(frame) {
  return frame.type === "heartbeat" && $("quiet").checked;
}

function send(frame) {
  socket.send(JSON.stringify(frame));
  if (!isHidden(frame)) note("out", "", frame);
}

function connect() {
  const chosen = $("person").selectedOptions[0];
  const query = new URLSearchParams({ userId: chosen.value, role: chosen.dataset.role });
  if (chosen.dataset.hospital) query.set("hospitalId", chosen.dataset.hospital);
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const own = new WebSocket(`${scheme}://${location.host}/?${query}`);
  socket = own;
  show("waiting", `Connecting as ${chosen.value} …`);
  own.onopen = () => {
    show("open", `Connected as ${chosen.value}`);
    heart = setInterval(() => send({ type: "heartbeat", timestamp: new Date().toISOString() }), HEARTBEAT_MS);
  };
  own.onmessage = (event) => {
    const frame = JSON.parse(event.data);
    if (!isHidden(frame)) note("in", "", frame);
  };
  own.onclose = (event) => {
    clearInterval(heart);
    note("closed", `closed with ${event.code} ${event.reason}`);
    socket = null;
    show("closed", "Not connected");
  };
}

function fill() {
  const chosen = samples[$("sample").selectedIndex];
  $("frame").value = JSON.stringify(chosen.frame, null, 2);
  $("problem").textContent = "";
}

$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket) socket.close(1000);
  else connect();
});
$("request").addEventListener("submit", (event) => {
  event.preventDefault();
  try {
    const frame = JSON.parse($("frame").value);
    $("problem").textContent = "";
    if (socket && socket.readyState === WebSocket.OPEN) send(frame);
  } catch (error) {
    $("problem").textContent = `This is not JSON: ${error.message}`;
  }
});
$("frame").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("request").requestSubmit();
});
$("sample").addEventListener("change", fill);
$("clear").addEventListener("click", () => $("log").replaceChildren());
$("sample").selectedIndex = Math.max(0, samples.findIndex((sample) => sample.type === "sendMessage"));
fill();
show("closed", "Not connected");
