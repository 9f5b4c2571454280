/** Plots as SVG: distributions, stacked bars, lines. */

/** Told apart also by those who see fewer colours (Okabe and Ito). */
const COLOURS = [
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#e69f00',
  '#56b4e9',
  '#8c6d1f',
  '#555555',
  '#7b3fb2',
] as const;
const WIDTH = 960;
const LEFT = 60;
const RIGHT = 250;
const PLOT_HEIGHT = 300;
const BOTTOM = 45;
const TOP = 12;
const BAR_HEIGHT = 22;
const BAR_LABEL_WIDTH = 230;
const GRID = '#8884';

const colourOf = (index: number): string => COLOURS[index % COLOURS.length] ?? '#000';

/** Which part of the samples was at most so long, over a logarithmic axis. */
export function ecdfPlot(
  series: readonly { readonly label: string; readonly values: readonly number[] }[],
  xLabel: string,
): string {
  const all = series.flatMap(({ values }) => values).filter((value) => value > 0);
  const [low, high] = [Math.floor(Math.log10(Math.min(...all))), Math.ceil(Math.log10(Math.max(...all)))];
  const span = Math.max(1, high - low);
  const x = (value: number): number => LEFT + ((Math.log10(value) - low) / span) * (WIDTH - LEFT - RIGHT);
  const y = (fraction: number): number => TOP + (1 - fraction) * PLOT_HEIGHT;
  const ticks = Array.from({ length: span + 1 }, (_, i) => 10 ** (low + i));
  const lines = series.map(({ values }, i) => {
    const sorted = [...values].sort((a, b) => a - b);
    const steps = sorted.map(
      (value, k) =>
        `L${round(x(value))} ${round(y(k / sorted.length))} V${round(y((k + 1) / sorted.length))}`,
    );
    return path(`M${round(x(sorted[0] ?? 1))} ${y(0)} ${steps.join(' ')}`, i);
  });
  return svg(TOP + PLOT_HEIGHT + BOTTOM, [
    ...ticks.map((tick) => vertical(x(tick), String(tick))),
    ...[0, 0.5, 0.95, 1].map((fraction) => horizontal(y(fraction), `${fraction * 100} %`)),
    ...lines,
    legend(series.map(({ label }) => label)),
    caption(xLabel),
  ]);
}

export function linePlot(
  series: readonly {
    readonly label: string;
    readonly points: readonly (readonly [x: number, y: number])[];
  }[],
  labels: { readonly x: string; readonly y: string },
): string {
  const points = series.flatMap((one) => one.points);
  const maxX = Math.max(1, ...points.map(([x]) => x));
  const [least, most] = [
    Math.min(...points.map(([, y]) => y).filter((y) => y > 0)),
    Math.max(...points.map(([, y]) => y)),
  ];
  const [low, high] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))];
  const span = Math.max(1, high - low);
  const x = (value: number): number => LEFT + (value / maxX) * (WIDTH - LEFT - RIGHT);
  const y = (value: number): number =>
    TOP + (1 - (Math.log10(Math.max(value, 10 ** low)) - low) / span) * PLOT_HEIGHT;
  const counts = [...new Set(points.map(([count]) => count))];
  return svg(TOP + PLOT_HEIGHT + BOTTOM, [
    ...counts.map((count) => vertical(x(count), String(count))),
    ...Array.from({ length: span + 1 }, (_, i) => 10 ** (low + i)).map((tick) =>
      horizontal(y(tick), `${tick} ${labels.y}`),
    ),
    ...series.map((one, i) =>
      path(one.points.map(([a, b], k) => `${k === 0 ? 'M' : 'L'}${round(x(a))} ${round(y(b))}`).join(' '), i),
    ),
    legend(series.map(({ label }) => label)),
    caption(labels.x),
  ]);
}

export interface Bar {
  readonly label: string;
  readonly parts: readonly { readonly name: string; readonly value: number }[];
}

/** Each bar is as long as all others: shares, with the sums beside them, which differ too much for one scale. */
export function barPlot(bars: readonly Bar[], format: (value: number) => string): string {
  const names = [...new Set(bars.flatMap(({ parts }) => parts.map(({ name }) => name)))];
  const width = WIDTH - BAR_LABEL_WIDTH - RIGHT / 2;
  const rows = bars.flatMap(({ label, parts }, row) => {
    const top = TOP + row * (BAR_HEIGHT + 6);
    const sum = parts.reduce((total, { value }) => total + value, 0);
    let at = BAR_LABEL_WIDTH;
    const boxes = parts.map(({ name, value }) => {
      const length = (value / sum) * width;
      const box = `<rect x="${round(at)}" y="${top}" width="${round(length)}" height="${BAR_HEIGHT}" fill="${colourOf(names.indexOf(name))}"><title>${name} ${format(value)}</title></rect>`;
      at += length;
      return box;
    });
    return [text(BAR_LABEL_WIDTH - 8, top + 15, label, 'end'), ...boxes, text(at + 8, top + 15, format(sum))];
  });
  const bottom = TOP + bars.length * (BAR_HEIGHT + 6) + 10;
  const keys = names.map((name, i) => {
    const left = BAR_LABEL_WIDTH + i * 110;
    return `<rect x="${left}" y="${bottom}" width="12" height="12" fill="${colourOf(i)}"/>${text(left + 18, bottom + 11, name)}`;
  });
  return svg(bottom + 24, [...rows, ...keys]);
}

const round = (value: number): string => value.toFixed(1);

function svg(height: number, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img">${parts.join('')}</svg>`;
}

function path(data: string, index: number): string {
  return `<path d="${data}" fill="none" stroke="${colourOf(index)}" stroke-width="2"/>`;
}

function vertical(x: number, label: string): string {
  const bottom = TOP + PLOT_HEIGHT;
  return `<path d="M${round(x)} ${TOP}V${bottom}" stroke="${GRID}"/>${text(x, bottom + 16, label, 'middle')}`;
}

function horizontal(y: number, label: string): string {
  return `<path d="M${LEFT} ${round(y)}H${WIDTH - RIGHT}" stroke="${GRID}"/>${text(LEFT - 6, y + 4, label, 'end')}`;
}

function legend(labels: readonly string[]): string {
  const left = WIDTH - RIGHT + 20;
  return labels
    .map(
      (label, i) =>
        `<rect x="${left}" y="${TOP + i * 20}" width="12" height="12" fill="${colourOf(i)}"/>${text(left + 18, TOP + i * 20 + 11, label)}`,
    )
    .join('');
}

function caption(label: string): string {
  return text(LEFT + (WIDTH - LEFT - RIGHT) / 2, TOP + PLOT_HEIGHT + 36, label, 'middle');
}

function text(x: number, y: number, label: string, anchor = 'start'): string {
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}">${label.replace(/[&<>]/g, (c) => `&#${c.charCodeAt(0)};`)}</text>`;
}
