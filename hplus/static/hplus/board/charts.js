// Small charts, drawn from numbers.

import { clock, draw, duration } from "./page.js";

const STEPS = { alert: "Alerted", accept: "Accepted", scene: "On scene" };
const PERCENTILES = [["p50", "half"], ["p90", "9 in 10"], ["p99", "99 in 100"]];

// Percentiles of one step as bars, with the target as a line across them.
export function stepChart(step, times) {
  const most = Math.max(times.targetSeconds * 1.4, times.p99 ?? 0, 1);
  const x = (seconds) => 62 + (seconds / most) * 200;
  const target = x(times.targetSeconds);
  const kept = times.withinTarget === null ? "nobody yet" : `${Math.round(times.withinTarget * 100)} % in time`;
  const chart = draw(
    "svg",
    { viewBox: "0 0 330 84", cls: "hp-chart", role: "img", "aria-label": describe(step, times, kept) },
    draw("text", { x: 0, y: 12, cls: "hp-chart-title", text: STEPS[step] ?? step }),
    draw("text", { x: 328, y: 12, "text-anchor": "end", text: `${kept} · ${times.count}` }),
  );
  const figures = [];
  PERCENTILES.forEach(([key, name], row) => {
    const seconds = times[key];
    const y = 22 + row * 16;
    figures.push(draw("text", { x: 0, y: y + 10, text: name }));
    if (seconds === null) {
      figures.push(draw("text", { x: 66, y: y + 10, text: "–" }));
      return;
    }
    const cls = seconds > times.targetSeconds ? "hp-late" : "hp-in-time";
    const end = Math.max(64, x(seconds));
    const isAtTarget = end < target && end > target - 30;
    chart.append(draw("rect", { x: 62, y, width: end - 62, height: 12, rx: 2, cls }));
    figures.push(draw("text", { x: (isAtTarget ? target : end) + 4, y: y + 10, text: duration(seconds) }));
  });
  chart.append(draw("line", { x1: target, x2: target, y1: 18, y2: 70, cls: "hp-target" }), ...figures);
  chart.append(draw("text", { x: target, y: 81, "text-anchor": "middle", text: `target ${duration(times.targetSeconds)}` }));
  return chart;
}

function describe(step, times, kept) {
  const figures = PERCENTILES.map(([key, name]) => `${name} ${times[key] === null ? "unknown" : duration(times[key])}`);
  return `${STEPS[step] ?? step}: ${figures.join(", ")}; target ${duration(times.targetSeconds)}; ${kept}`;
}

// NEWS2 over time, in front of its bands. Drawn at the width of its container, so that labels keep their size.
export function news2Chart(scores, placeWidth) {
  const width = Math.max(280, Math.min(560, placeWidth));
  const right = width - 20;
  const from = Date.parse(scores[0].at);
  const span = Math.max(60000, Date.parse(scores.at(-1).at) - from);
  const x = (at) => 40 + ((Date.parse(at) - from) / span) * (right - 40);
  const y = (score) => 130 - (Math.min(score, 20) / 20) * 115;
  const band = (low, high, cls) => draw("rect", { x: 40, width: right - 40, y: y(high), height: y(low) - y(high), cls });
  const said = scores.map((s) => `${clock(s.at)}: ${s.score}${s.complete ? "" : " at least"}`).join("; ");
  const chart = draw(
    "svg",
    { viewBox: `0 0 ${width} 152`, cls: "hp-chart hp-news2", role: "img", "aria-label": `NEWS2. ${said}` },
    band(0, 5, "hp-band-low"),
    band(5, 7, "hp-band-medium"),
    band(7, 20, "hp-band-high"),
    ...[0, 5, 7, 20].map((score) => draw("text", { x: 34, y: y(score) + 4, "text-anchor": "end", text: score })),
    draw("polyline", { points: scores.map((s) => `${x(s.at)},${y(s.score)}`).join(" "), cls: "hp-trend" }),
    draw("text", { x: 40, y: 146, text: clock(scores[0].at) }),
  );
  if (scores.length > 1) {
    chart.append(draw("text", { x: right, y: 146, "text-anchor": "end", text: clock(from + span) }));
  }
  for (const s of scores) {
    chart.append(
      draw("circle", { cx: x(s.at), cy: y(s.score), r: 4, cls: s.complete ? "hp-dot" : "hp-dot hp-incomplete" }),
      draw("text", { x: x(s.at), y: y(s.score) - 8, "text-anchor": "middle", text: s.complete ? s.score : `≥${s.score}` }),
    );
  }
  return chart;
}
