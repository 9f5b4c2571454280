/** Paths that Firecracker's API lacks: the console, events, what a machine costs, its boot, its end. */
import type { Duplex } from 'node:stream';
import { z } from 'zod';
import { DEFAULT_MEMORY_BYTES } from '../../machine/config.js';
import { prometheusText } from '../../machine/report/prometheus.js';
import { isData, specOf } from '../../machine/spec.js';
import { disposeAll } from '../../util/cleanup.js';
import { ApiError } from '../api-error.js';
import type { Instance } from '../instance.js';
import type { InstanceEnd } from '../instance-end.js';
import { Follower } from '../logs/follower.js';
import { machineStats } from '../stats/stats.js';
import { type Route, route, Stream } from './route.js';
import { machineFacts } from './schemas.js';

const MAX_FORKS = 1000;
/** Console input in one request. */
const MAX_INPUT_CHARACTERS = 32 << 10;

const size = z.strictObject({ columns: z.int().min(1).max(1000), rows: z.int().min(1).max(1000) });
const stop = z.strictObject({ timeout_ms: z.int().min(0).max(3_600_000).optional() });
const snapshot = z.strictObject({ directory: z.string().min(1), differential: z.boolean().optional() });
const fork = z.strictObject({
  names: z.array(z.string()).min(1).max(MAX_FORKS),
  fresh: z.boolean().optional(),
});
const input = z.strictObject({ text: z.string().max(MAX_INPUT_CHARACTERS) });

export const machineRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/tsvm/machine',
    summary: 'what it is and how it is',
    reply: machineFacts,
    handle: ({ instance }) => describe(instance),
  }),
  route({
    method: 'GET',
    path: '/tsvm/stats',
    summary: 'what it costs and has done so far',
    when: 'after start',
    handle: ({ instance }) => machineStats(instance),
  }),
  route({
    method: 'GET',
    path: '/tsvm/metrics',
    summary: 'the same as Prometheus scrapes it',
    when: 'after start',
    handle: ({ instance }) => ({
      text: prometheusText({ [instance.id]: instance.machine.metrics() }),
      type: 'text/plain; version=0.0.4',
    }),
  }),
  route({
    method: 'GET',
    path: '/tsvm/timeline',
    summary: 'when it was made, started, booted',
    when: 'after start',
    handle: ({ instance }) => instance.machine.timeline(),
  }),
  route({
    method: 'GET',
    path: '/tsvm/events',
    summary: 'what happens to it, as server-sent events',
    handle: ({ instance }) =>
      new Stream('text/event-stream', (write, end) => {
        write(': listening\n\n');
        const subscriptions = [
          instance.listen(({ name, atMs, detail }) =>
            write(`event: ${name}\ndata: ${JSON.stringify({ at_ms: atMs, ...detail })}\n\n`),
          ),
          instance.onEnd(end),
        ];
        return () => disposeAll(subscriptions);
      }),
  }),
  route({
    method: 'GET',
    path: '/tsvm/console',
    summary: 'what the console said last and says from now on; with Upgrade: tsvm-console, both ways',
    handle: ({ instance }) =>
      new Stream('application/octet-stream', (write, end) => {
        write(instance.log.tail);
        const subscriptions = [instance.log.listen(write), instance.onEnd(end)];
        return () => disposeAll(subscriptions);
      }),
    upgrade: { protocol: 'tsvm-console', take: attach },
  }),
  route({
    method: 'PUT',
    path: '/tsvm/console',
    summary: 'types on the console',
    when: 'after start',
    body: input,
    handle({ instance, body }) {
      if (!instance.type(Buffer.from(body.text)))
        throw new ApiError('The guest has not taken what was typed before: ask again later.');
      return undefined;
    },
  }),
  route({
    method: 'PUT',
    path: '/tsvm/console/size',
    summary: 'says how large the terminal is',
    when: 'after start',
    body: size,
    handle({ instance, body }) {
      const { machine } = instance;
      machine.console.resize(body.columns, body.rows);
      machine.channel?.resize(body.rows, body.columns);
      return undefined;
    },
  }),
  route({
    method: 'PUT',
    path: '/tsvm/stop',
    summary: 'asks the guest to end where it can be asked, and ends it after a time',
    body: stop,
    async handle({ instance, body }) {
      await instance.stop(body.timeout_ms);
      return undefined;
    },
  }),
  route({
    method: 'PUT',
    path: '/tsvm/kill',
    summary: 'ends it at once; disks are flushed',
    async handle({ instance }) {
      await instance.kill();
      return undefined;
    },
  }),
  route({
    method: 'GET',
    path: '/tsvm/wait',
    summary: 'answers when it has ended',
    handle: async ({ instance, gone }) => await endOf(instance, gone),
  }),
  route({
    method: 'PUT',
    path: '/tsvm/snapshot',
    summary: 'saves it into a folder; it goes on',
    when: 'after start',
    body: snapshot,
    handle: async ({ instance, body, gone }) =>
      await instance.machine.snapshot(body.directory, {
        differential: body.differential === true,
        signal: gone,
      }),
  }),
  route({
    method: 'PUT',
    path: '/tsvm/fork',
    summary: 'makes running copies that share its memory, each with a name of its own, in the same process',
    when: 'after start',
    body: fork,
    async handle({ instance, body, gone }) {
      await instance.fork(body.names, body.fresh, gone);
      return undefined;
    },
  }),
];

function describe(instance: Instance): z.input<typeof machineFacts> {
  const { id, state, createdMs, startedMs, end } = instance;
  return {
    id,
    state,
    pid: process.pid,
    created_ms: createdMs,
    ...(startedMs === undefined ? {} : { started_ms: startedMs }),
    ...(end === undefined ? {} : { end }),
    ...(instance.container !== undefined
      ? describeContainer(instance)
      : instance.hasStarted
        ? describeMachine(instance)
        : {}),
  };
}

function describeContainer({ container, hasTerminal }: Instance): Partial<z.input<typeof machineFacts>> {
  return {
    isolation: 'container',
    has_terminal: hasTerminal,
    ...(container === undefined ? {} : { process_1: container.pid }),
  };
}

function describeMachine({ machine, input }: Instance): Partial<z.input<typeof machineFacts>> {
  const { profile, cmdline, config } = machine;
  return {
    profile,
    // A command on pipes: what it says has line feeds only.
    has_terminal: input === undefined,
    cmdline,
    cpus: config.cpus ?? 1,
    memory_bytes: config.memoryBytes ?? DEFAULT_MEMORY_BYTES,
    devices: (config.devices ?? []).map(({ kind, config }) => ({ kind, ...config })),
    ...(isData(config) ? { directory: process.cwd(), spec: specOf(config) } : {}),
  };
}

/** Rejects when the client has gone: a machine may be waited for as often as somebody likes. */
function endOf(instance: Instance, gone: AbortSignal): Promise<InstanceEnd> {
  return new Promise((resolve, reject) => {
    gone.throwIfAborted();
    const subscription = instance.onEnd(resolve);
    gone.addEventListener('abort', () => {
      subscription[Symbol.dispose]();
      reject(gone.reason);
    });
  });
}

/** Bytes both ways. Whoever does not read is dropped, whoever types more than the guest takes waits. */
function attach(instance: Instance, socket: Duplex, accept: () => void): void {
  const { terminal, log } = instance;
  accept();
  const follower = new Follower(socket);
  follower.write(log.tail);
  const subscriptions = [log.listen((bytes) => follower.write(bytes)), instance.onEnd(() => follower.end())];
  socket.on('data', (bytes: Buffer) => {
    if (terminal.write(bytes)) return;
    socket.pause();
    terminal.onDrain(() => socket.resume());
  });
  socket.once('end', () => follower.end());
  socket.once('close', () => disposeAll(subscriptions));
}
