/** Metrics as Prometheus scrapes them: the text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats). */
import type { DurationSummary } from '../../util/histogram.js';
import type { DeviceMetrics, MachineMetrics } from './metrics.js';

type Labels = Readonly<Record<string, string>>;

/** Lines by metric: those of one must stand together, whatever machine they are of. */
class Page {
  readonly #metrics = new Map<string, { readonly head: string; readonly lines: string[] }>();

  add(name: string, type: 'counter' | 'gauge', help: string, labels: Labels, value: number): void {
    this.#lines(name, type, help).push(sample(name, labels, value));
  }

  histogram(
    name: string,
    help: string,
    labels: Labels,
    { count, sumSeconds, atMost }: DurationSummary,
  ): void {
    const lines = this.#lines(name, 'histogram', help);
    for (const [seconds, within] of atMost)
      lines.push(sample(`${name}_bucket`, { ...labels, le: String(seconds) }, within));
    lines.push(
      sample(`${name}_bucket`, { ...labels, le: '+Inf' }, count),
      sample(`${name}_sum`, labels, sumSeconds),
      sample(`${name}_count`, labels, count),
    );
  }

  #lines(name: string, type: string, help: string): string[] {
    let metric = this.#metrics.get(name);
    if (metric === undefined) {
      metric = { head: `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`, lines: [] };
      this.#metrics.set(name, metric);
    }
    return metric.lines;
  }

  get text(): string {
    return [...this.#metrics.values()].map(({ head, lines }) => head + lines.join('')).join('');
  }
}

function sample(name: string, labels: Labels, value: number): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
  return `${name}{${pairs.join(',')}} ${value}\n`;
}

const escapeLabel = (text: string): string =>
  text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');

/** `readBytes` is `read_bytes`. */
const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/**
 * The page that a scraper gets.
 *
 * @param machines by the name that they shall have in the label `machine`.
 */
export function prometheusText(machines: Readonly<Record<string, MachineMetrics>>): string {
  const page = new Page();
  for (const [name, metrics] of Object.entries(machines)) addMachine(page, { machine: name }, metrics);
  return page.text;
}

function addMachine(page: Page, labels: Labels, { exits, kvmStats, devices }: MachineMetrics): void {
  page.add('tsvm_exits_total', 'counter', 'Returns of KVM_RUN.', labels, exits.total);
  page.add(
    'tsvm_exits_to_javascript_total',
    'counter',
    'Exits that stopped a vCPU until JavaScript answered.',
    labels,
    exits.toJavaScript,
  );
  for (const [reason, count] of Object.entries(exits.byReason))
    page.add('tsvm_exits_by_reason_total', 'counter', 'Returns of KVM_RUN.', { ...labels, reason }, count);
  for (const [stat, value] of Object.entries(kvmStats ?? {}))
    page.add('tsvm_kvm_stat', 'gauge', 'What KVM counts of the vCPUs.', { ...labels, stat }, value);
  for (const device of devices) addDevice(page, { ...labels, device: device.id }, device);
}

function addDevice(page: Page, labels: Labels, device: DeviceMetrics): void {
  const { name, queues, counters, durations } = device;
  page.add(
    'tsvm_device_needs_reset_total',
    'counter',
    'Times that the guest broke a rule.',
    labels,
    device.needsReset,
  );
  for (const [index, queue] of queues.entries()) {
    const ofQueue = { ...labels, queue: String(index) };
    page.add('tsvm_queue_kicks_total', 'counter', 'Notifications by the driver.', ofQueue, queue.kicks);
    page.add(
      'tsvm_queue_interrupts_total',
      'counter',
      'Interrupts to the driver.',
      ofQueue,
      queue.interrupts,
    );
    page.add('tsvm_queue_chains_total', 'counter', 'Descriptor chains taken.', ofQueue, queue.chains);
    page.add('tsvm_queue_errors_total', 'counter', 'Malformed chains and rings.', ofQueue, queue.errors);
  }
  for (const [counter, value] of Object.entries(counters))
    page.add(`tsvm_${name}_${snakeCase(counter)}_total`, 'counter', `${name}: ${counter}.`, labels, value);
  for (const [duration, summary] of Object.entries(durations))
    page.histogram(`tsvm_${name}_${snakeCase(duration)}_seconds`, `${name}: ${duration}.`, labels, summary);
}
