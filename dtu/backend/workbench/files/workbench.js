// One terminal: its screen, keyboard and pointer, and its cards.
import { Desk, post } from "./desk.js";

const $ = (id) => document.getElementById(id);
const embed = new URLSearchParams(location.search).has("embed");
document.body.classList.toggle("embed", embed);

const canvas = $("screen"), glass = canvas.parentElement, pen = canvas.getContext("2d", { alpha: false });
const size = { w: canvas.width, h: canvas.height };
let socket = null;

// --- what is sent: records of protocol/input, big endian

const KEY = 1, POINTER = 2, WHEEL = 3, RELEASE = 4, ACK = 6;

function send(length, fill) {
  if (socket?.readyState !== WebSocket.OPEN) return;
  const v = new DataView(new ArrayBuffer(length));
  fill(v);
  socket.send(v.buffer);
}
const sendKey = (usage, down) => send(4, (v) => { v.setUint8(0, KEY); v.setUint16(1, usage); v.setUint8(3, down ? 1 : 0); });
const sendPointer = (x, y, buttons) => send(6, (v) => { v.setUint8(0, POINTER); v.setUint16(1, x); v.setUint16(3, y); v.setUint8(5, buttons); });
const sendWheel = (right, down) => send(5, (v) => { v.setUint8(0, WHEEL); v.setInt16(1, right); v.setInt16(3, down); });
const sendRelease = () => send(1, (v) => v.setUint8(0, RELEASE));
const sendAck = (seq) => send(5, (v) => { v.setUint8(0, ACK); v.setUint32(1, seq); });

// --- the picture

function update(buffer) {
  const v = new DataView(buffer);
  if (v.getUint32(0, true) !== 1) return;
  const seq = v.getUint32(4, true), w = v.getUint16(8, true), h = v.getUint16(10, true), n = v.getUint32(12, true);
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = size.w = w;
    canvas.height = size.h = h;
    fit();
  }
  let at = 16 + 8 * n;
  for (let i = 0; i < n; i++) {
    const f = 16 + 8 * i;
    const [x, y, rw, rh] = [0, 2, 4, 6].map((o) => v.getUint16(f + o, true));
    pen.putImageData(new ImageData(new Uint8ClampedArray(buffer, at, rw * rh * 4), rw, rh), x, y);
    at += rw * rh * 4;
  }
  $("veil").classList.add("gone");
  // The next update comes when this one is really on the screen.
  shown = seq;
  if (document.hidden) acknowledge();
  else requestAnimationFrame(acknowledge);
}

let shown = 0; // update to acknowledge, 0 for none

function acknowledge() {
  if (shown) sendAck(shown);
  shown = 0;
}
// A page that is hidden before its frame comes gets none.
addEventListener("visibilitychange", () => { if (document.hidden) acknowledge(); });

function connect() {
  const s = socket = new WebSocket(new URL("live", location.href.replace(/^http/, "ws").replace(/[?#].*/, "")));
  s.binaryType = "arraybuffer";
  s.onopen = () => { status("connected", "on"); wait = 250; };
  s.onmessage = (e) => { if (s === socket) typeof e.data === "string" ? state(JSON.parse(e.data)) : update(e.data); };
  s.onclose = () => {
    if (s !== socket) return;
    socket = null;
    held.clear();
    shown = 0;
    status("no connection", "off");
    $("veil").classList.remove("gone");
    $("veil").firstElementChild.textContent = "The terminal's program has stopped";
    setTimeout(connect, wait);
    wait = Math.min(wait * 2, 4000);
  };
}
let wait = 250;

function status(text, kind) {
  $("status").textContent = text;
  $("status").className = `status ${kind}`;
  $("led").classList.toggle("on", kind === "on");
}

// --- keyboard: real presses and releases only

const codes = await (await fetch("keys.json")).json();
const held = new Set();

function key(usage, down) {
  if (down === held.has(usage)) return;
  down ? held.add(usage) : held.delete(usage);
  sendKey(usage, down);
}
canvas.addEventListener("keydown", (e) => {
  const usage = codes[e.code];
  if (usage === undefined) return;
  e.preventDefault();
  if (!e.repeat) key(usage, true);
});
canvas.addEventListener("keyup", (e) => {
  const usage = codes[e.code];
  if (usage === undefined) return;
  e.preventDefault();
  key(usage, false);
  // macOS tells of no release while Command is down.
  if (e.key === "Meta") release();
});
function release() {
  if (!held.size && !buttons) return;
  held.clear();
  buttons = 0;
  sendRelease();
}
canvas.addEventListener("blur", release);
addEventListener("blur", release);

// --- pointer: in pixels of the screen, however large it is shown

let buttons = 0, acrossX = 0, acrossY = 0;

function point(e) {
  const r = canvas.getBoundingClientRect();
  const on = (v, from, length, n) => Math.min(Math.max(Math.floor(((v - from) * n) / length), 0), n - 1);
  // A browser's bits are left, right, middle; ours left, middle, right.
  buttons = (e.buttons & 0b11001) | ((e.buttons & 2) << 1) | ((e.buttons & 4) >> 1);
  sendPointer(on(e.clientX, r.left, r.width, size.w), on(e.clientY, r.top, r.height, size.h), buttons);
}
canvas.addEventListener("pointerdown", (e) => {
  e.preventDefault();
  canvas.focus({ preventScroll: true });
  canvas.setPointerCapture(e.pointerId);
  point(e);
});
canvas.addEventListener("pointermove", point);
canvas.addEventListener("pointerup", point);
canvas.addEventListener("pointercancel", release);
canvas.addEventListener("contextmenu", (e) => e.preventDefault());
canvas.addEventListener("auxclick", (e) => e.preventDefault());
canvas.addEventListener("wheel", (e) => {
  e.preventDefault();
  // A notch is 120 of wheelDelta in every browser; a touchpad sends parts.
  const notch = (delta, standard) => (delta !== undefined ? -delta / 120 : standard / (e.deltaMode ? 3 : 100));
  acrossX += notch(e.wheelDeltaX, e.deltaX);
  acrossY += notch(e.wheelDeltaY, e.deltaY);
  const right = Math.trunc(acrossX), down = Math.trunc(acrossY);
  acrossX -= right;
  acrossY -= down;
  const bound = (v) => Math.min(Math.max(v, -64), 64);
  if (right || down) sendWheel(bound(right), bound(down));
}, { passive: false });

// --- cards and buttons

const desk = embed ? null : new Desk({
  root: $("scene"),
  tray: $("tray"),
  slots: [{
    name: "the terminal",
    slit: () => $("slot").getBoundingClientRect(),
    zone: () => {
      const m = $("monitor").getBoundingClientRect(), s = $("stand").getBoundingClientRect();
      return new DOMRect(m.left, m.top, m.width, s.bottom - m.top - 30);
    },
    stand: () => $("stand").getBoundingClientRect(),
    near: (yes) => $("slot").classList.toggle("near", yes),
  }],
  move: async (card, to) => state(to === null ? await post("api/remove") : await post("api/insert", { card })),
});

// The page around this one has the cards, and is told of them.
const tell = (message) => { if (embed && parent !== window) parent.postMessage(message, location.origin); };

function state(s) {
  document.title = s.title;
  $("title").textContent = s.title;
  desk?.update(0, s.cards);
  tell({ hotdesk: "state", state: s });
}

$("power").addEventListener("click", () => {
  post("api/power").then(state, (err) => desk?.toast(err.message));
  canvas.focus();
});
$("wide").addEventListener("click", async () => {
  await glass.requestFullscreen();
  navigator.keyboard?.lock?.(); // the browser's own keys too, where it gives them
  canvas.focus();
});

// --- layout: the picture as large as there is room, never larger than it is

function fit() {
  const scene = $("scene").getBoundingClientRect();
  const full = document.fullscreenElement === glass;
  const style = getComputedStyle($("scene"));
  const below = parseFloat(style.getPropertyValue("--stand")) + parseFloat(style.getPropertyValue("--front"));
  const room = full ? [innerWidth, innerHeight] : [scene.width - 22 - 24, scene.height - below - 11 - 42 - (embed ? 10 : 22)];
  const scale = Math.min(full ? Infinity : 1, room[0] / size.w, room[1] / size.h);
  canvas.style.width = `${Math.max(80, Math.floor(size.w * scale))}px`;
  canvas.style.height = `${Math.max(60, Math.floor(size.h * scale))}px`;
  desk?.layout();
  tell({ hotdesk: "layout" });
}
new ResizeObserver(fit).observe($("scene"));
addEventListener("fullscreenchange", fit);

connect();
