/** A comparison as one page that needs nothing else: tables, and plots in SVG. */
import type { Comparison } from './compare.js';
import { CAVEAT, formatMs, tablesOf } from './format.js';
import { type Bar, barPlot, ecdfPlot, linePlot } from './plot.js';

const STYLE = `
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; background: #fff }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2.5rem }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto } th, td { text-align: left; padding: .25rem .7rem; border-bottom: 1px solid #d8dee4; vertical-align: top }
td:not(:first-child) { font-variant-numeric: tabular-nums } td.open { background: #ffebe9 } td.wall { background: #e6f6ea }
svg { max-width: 100%; height: auto; display: block; margin: 1rem 0 } svg text { font: 12px system-ui, sans-serif; fill: #1b1f24 }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1rem; font-size: 13px } dt { color: #57606a } dd { margin: 0 }
@media (prefers-color-scheme: dark) { body { color: #e6edf3; background: #0d1117 } th, td { border-color: #30363d } td.open { background: #4c1d1d } td.wall { background: #12351f } svg text { fill: #e6edf3 } dt { color: #8d96a0 } }
`;

/** A figure and its unit stay on one line. */
const UNIT = / ([KMG]iB|B)\b/g;

export function formatPage(comparison: Comparison): string {
  const { environment, notes, starts, memory, isolation } = comparison;
  const tables = tablesOf(comparison);
  const table = (beginning: string): string => {
    const found = tables.find(({ title }) => title.startsWith(beginning));
    return found === undefined ? '' : `<h2>${escapeHtml(found.title)}</h2>${tableOf(found.head, found.rows)}`;
  };
  const bars = starts.map(
    ({ subject, phases }): Bar => ({
      label: subject,
      parts: phases.map(({ name, ms }) => ({ name, value: ms })),
    }),
  );
  const parts = [
    `<h1>Machines and containers, side by side</h1>`,
    `<p>One program, one image, by <code>tsvm compare</code>.</p>`,
    `<dl>${Object.entries(environment)
      .map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`)
      .join('')}</dl>`,
    notes.length === 0
      ? ''
      : `<p>What this host does to the figures:</p><ul>${notes.map((note) => `<li>${escapeHtml(note)}</li>`).join('')}</ul>`,
    table('From the request'),
    starts.length === 0
      ? ''
      : ecdfPlot(
          starts.map(({ subject, firstMs }) => ({ label: subject, values: firstMs })),
          'ms from the request to the first byte',
        ),
    starts.length === 0 ? '' : barPlot(bars, (ms) => `${formatMs(ms)} ms`),
    table('Memory'),
    memory.length === 0
      ? ''
      : linePlot(
          memory.map(({ subject, points }) => ({
            label: subject,
            points: points.map(({ count, pssBytes }) => [count, Math.max(0, pssBytes) / 2 ** 20] as const),
          })),
          { x: 'idle ones', y: 'MiB' },
        ),
    isolation === undefined
      ? ''
      : `<h2>What the program sees of the host</h2>${tableOf(
          ['', ...isolation.columns],
          isolation.rows.map(({ title, findings }) => [title, ...findings.map(({ text }) => text)]),
          isolation.rows.map(({ findings }) => findings.map(({ verdict }) => verdict)),
        )}<p>Green: held back, or the guest’s own. Red: the host’s.</p>`,
    `<p>${escapeHtml(CAVEAT)}</p>`,
  ];
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>tsvm compare</title><style>${STYLE}</style>${parts.join('\n')}</html>\n`;
}

function tableOf(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  classes: readonly (readonly string[])[] = [],
): string {
  const heading = head.map((cell) => `<th>${escapeHtml(cell)}</th>`).join('');
  const body = rows.map((row, i) => {
    const cells = row.map(
      (cell, j) =>
        `<td class="${classes[i]?.[j - 1] ?? ''}">${escapeHtml(cell).replace(UNIT, '&nbsp;$1')}</td>`,
    );
    return `<tr>${cells.join('')}</tr>`;
  });
  return `<table><thead><tr>${heading}</tr></thead><tbody>${body.join('')}</tbody></table>`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
