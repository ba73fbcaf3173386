// A Leaflet map that is useful without tiles: a plain grid, positions and distances.

import { make } from "./page.js";

const { L } = window;

const Grid = L.GridLayer.extend({ createTile: () => make("div", { cls: "hp-grid-tile" }) });

export function makeMap(element, tileUrl, centre) {
  const map = L.map(element, { attributionControl: Boolean(tileUrl), zoomSnap: 0.5 }).setView(centre, 13);
  if (tileUrl) {
    L.tileLayer(tileUrl, { maxZoom: 19, attribution: "© OpenStreetMap contributors" }).addTo(map);
  } else {
    new Grid({ tileSize: 128 }).addTo(map);
  }
  L.control.scale({ imperial: false }).addTo(map);
  return map;
}

// A mark with its label, so that colour is never the only sign.
export function mark(map, latLng, { cls, sign, label, title }) {
  const body = make("div", { cls: `hp-mark ${cls}` }, make("b", { text: sign }));
  if (label) body.append(make("span", { text: label }));
  const icon = L.divIcon({ className: "hp-mark-anchor", html: body, iconSize: [0, 0] });
  return L.marker(latLng, { icon, title: title ?? label, alt: title ?? label, keyboard: false }).addTo(map);
}

export function fit(map, places) {
  if (places.length === 1) map.setView(places[0], 14);
  else if (places.length) map.fitBounds(L.latLngBounds(places).pad(0.3), { maxZoom: 16 });
}

export const line = (map, latLngs) => L.polyline(latLngs, { weight: 3, opacity: 0.7 }).addTo(map);
