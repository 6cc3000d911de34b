"use strict";
// Draws a chart above each table that asks for one, from the table's own cells: the two cannot
// differ, and without JavaScript the table is all there. data-chart="lines" or "bars"; columns to
// draw have data-series (their colour's name) in the heading; a cell's number may stand in data-value.

const colours = { hold: "--hold", review: "--review", fine: "--fine", brass: "--brass", soft: "--soft" };
const dashes = { hold: [], review: [8, 4], fine: [2, 3], brass: [], soft: [12, 4, 2, 4] };
const token = (name) => {
  // A probe resolves light-dark(), which a custom property keeps as it was written.
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
};

function numberIn(cell) {
  const text = cell?.dataset.value ?? cell?.textContent ?? "";
  const number = Number.parseFloat(text);
  return Number.isFinite(number) ? number : null;
}

function drawn(table) {
  const headings = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows].filter((row) => row.cells.length === headings.length);
  // Time runs from left to right, and the table begins with today.
  if ("newestFirst" in table.dataset) rows.reverse();
  const columns = headings.flatMap((heading, at) => (heading.dataset.series ? [at] : []));
  const labels = rows.map((row) => row.cells[0].textContent.trim());
  return {
    labels,
    data: [labels.map((_, at) => at), ...columns.map((at) => rows.map((row) => numberIn(row.cells[at])))],
    series: columns.map((at) => ({ label: headings[at].textContent.trim(), kind: headings[at].dataset.series })),
  };
}

function draw(table) {
  const { labels, data, series } = drawn(table);
  const place = document.createElement("div");
  place.className = "chart";
  // Readers of the page have the table; the drawing would say the same once more, without words.
  place.setAttribute("aria-hidden", "true");
  (table.closest(".scrolls") ?? table).before(place);
  const bars = table.dataset.chart === "bars";
  let chart = null;
  const build = () => {
    chart?.destroy();
    const ink = token("--soft");
    const grid = { stroke: token("--line"), width: 1 };
    const font = "12px system-ui, sans-serif";
    const short = (label) => (label.length > 14 ? `${label.slice(0, 13)}…` : label);
    chart = new uPlot(
      {
        width: Math.max(place.clientWidth, 200),
        height: 220,
        legend: { live: false },
        cursor: { drag: { x: false, y: false } },
        scales: { x: { time: false, range: bars ? [-0.5, labels.length - 0.5] : undefined }, y: { range: (_, low, high) => [0, Math.max(high * 1.08, 1)] } },
        axes: [
          { stroke: ink, grid: { show: false }, ticks: grid, font, space: 90, incrs: [1, 2, 5, 10, 15, 30], values: (_, at) => at.map((each) => short(labels[each] ?? "")) },
          { stroke: ink, grid, ticks: grid, font, size: 46 },
        ],
        series: [
          { label: table.tHead.rows[0].cells[0].textContent.trim(), value: (_, at) => labels[at] ?? "" },
          ...series.map(({ label, kind }) => ({
            label,
            stroke: token(colours[kind]),
            fill: bars ? token(colours[kind]) : undefined,
            width: 2,
            dash: dashes[kind],
            points: { show: !bars && labels.length < 40, size: 5 },
            spanGaps: true,
            paths: bars ? uPlot.paths.bars({ size: [0.6, 60] }) : undefined,
          })),
        ],
      },
      data,
      place,
    );
  };
  build();
  let waiting = 0;
  new ResizeObserver(() => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => {
      if (chart.width !== place.clientWidth && place.clientWidth > 0) chart.setSize({ width: place.clientWidth, height: 220 });
    });
  }).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
}

for (const table of document.querySelectorAll("table[data-chart]")) {
  if (table.tBodies[0]?.rows.length > 1) draw(table);
}
