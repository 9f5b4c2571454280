/** `tsvm api` by the recipes of Firecracker's getting-started guide: curl, as it is written there. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { findGuest } from '../../src/index.js';
import { run, started, TSVM } from '../support/cli.js';
import { until } from '../support/container.js';
import { firecrackerConfig, temporaryDirectory } from '../support/guest.js';

const folder = temporaryDirectory();
const at = (name: string): string => join(folder, name);
const BOOT_ARGS = 'quiet noreplace-smp tsc=nowatchdog console=ttyS0 reboot=k panic=1';

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

async function curl(socket: string, method: string, path: string, body?: object): Promise<Answer> {
  const { stdout } = await run('curl', [
    ...['--silent', '--unix-socket', socket, '-w', '\n%{http_code}', '-X', method, `http://localhost${path}`],
    ...['-H', 'Accept: application/json', '-H', 'Content-Type: application/json'],
    ...(body === undefined ? [] : ['-d', JSON.stringify(body)]),
  ]);
  const [text = '', status = ''] = stdout.toString().split(/\n(?=\d+$)/);
  return { status: Number(status), body: text === '' ? undefined : JSON.parse(text) };
}

const DONE = { status: 204, body: undefined };

/** `tsvm api` on pipes, and all that its console said. */
class Api {
  said = '';
  readonly #child: ChildProcess;
  readonly ended: Promise<number | null>;

  constructor(args: readonly string[]) {
    this.#child = spawn(process.execPath, [TSVM, 'api', ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdout?.on('data', (bytes: Buffer) => {
      this.said += bytes.toString();
    });
    this.ended = new Promise((resolve) => this.#child.once('close', resolve));
  }

  async says(what: string | RegExp): Promise<void> {
    await expect.poll(() => this.said, { timeout: 100_000 }).toMatch(what);
  }

  type(text: string): void {
    this.#child.stdin?.write(text);
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

describe('a machine by requests', () => {
  const socket = at('api.sock');
  const put = (path: string, body: object) => curl(socket, 'PUT', path, body);
  const disk = at('data.img');
  const processes: Api[] = [];
  const start = async (...args: string[]): Promise<Api> => {
    const api = new Api(['--api-sock', ...args]);
    processes.push(api);
    await until('there is a socket', () => existsSync(args[0] ?? ''), 60_000);
    return api;
  };
  afterEach(() => {
    for (const api of processes.splice(0)) api.kill();
    rmSync(socket, { force: true });
  });

  test('is configured, started, looked at, changed, paused, saved, and ends when the guest reboots', async () => {
    const {
      kernel,
      build: { rootfs },
    } = await findGuest();
    writeFileSync(disk, Buffer.alloc(1 << 20));
    rmSync(at('snap'), { recursive: true, force: true });
    const api = await start(socket, '--id', 'guide');
    expect(await put('/boot-source', { kernel_image_path: kernel, boot_args: BOOT_ARGS })).toEqual(DONE);
    const root = { drive_id: 'rootfs', path_on_host: rootfs, is_root_device: true, is_read_only: true };
    expect(await put('/drives/rootfs', root)).toEqual(DONE);
    const data = { drive_id: 'data', path_on_host: disk, is_root_device: false, is_read_only: false };
    expect(await put('/drives/data', data)).toEqual(DONE);
    expect(await put('/machine-config', { vcpu_count: 1, mem_size_mib: 64 })).toEqual(DONE);
    expect(await put('/entropy', {})).toEqual(DONE);
    const balloon = { amount_mib: 0, deflate_on_oom: true, stats_polling_interval_s: 1 };
    expect(await put('/balloon', balloon)).toEqual(DONE);
    expect(await put('/vsock', { guest_cid: 3, uds_path: at('vsock') })).toEqual(DONE);
    expect(await put('/metrics', { metrics_path: at('metrics') })).toEqual(DONE);
    expect(await curl(socket, 'GET', '/')).toMatchObject({ body: { id: 'guide', state: 'Not started' } });

    expect(await put('/actions', { action_type: 'InstanceStart' })).toEqual(DONE);
    expect(await curl(socket, 'GET', '/')).toMatchObject({ body: { state: 'Running' } });
    expect(await put('/actions', { action_type: 'InstanceStart' })).toMatchObject({ status: 400 });
    expect(await put('/machine-config', { vcpu_count: 1, mem_size_mib: 64 })).toEqual({
      status: 400,
      body: { fault_message: 'The requested operation is not supported after starting the microVM.' },
    });
    await api.says('# ');

    expect(await curl(socket, 'GET', '/balloon/statistics')).toMatchObject({
      status: 200,
      body: { target_mib: 0, actual_mib: 0, total_memory: expect.any(Number) },
    });
    expect(await curl(socket, 'PATCH', '/balloon', { amount_mib: 8 })).toEqual(DONE);
    truncateSync(disk, 2 << 20);
    expect(await curl(socket, 'PATCH', '/drives/data', { drive_id: 'data', path_on_host: disk })).toEqual(
      DONE,
    );
    api.type('grep -c . /proc/mounts; cat /sys/block/vdb/size\n');
    await api.says(/\n4096\r?\n/);
    writeFileSync(at('successor.img'), 'anew\n'.padEnd(1 << 20, '\0'));
    renameSync(at('successor.img'), disk);
    expect(await curl(socket, 'PATCH', '/drives/data', { drive_id: 'data', path_on_host: disk })).toEqual(
      DONE,
    );
    api.type('cat /sys/block/vdb/size; head -n 1 /dev/vdb\n');
    await api.says(/\n2048\r?\nanew\r?\n/);
    const other = at('other.img');
    writeFileSync(other, 'second\n'.padEnd(3 << 20, '\0'));
    const limiter = { bandwidth: null, ops: { size: 5, refill_time: 1000 } };
    const drive = { drive_id: 'data', path_on_host: other, rate_limiter: limiter };
    expect(await curl(socket, 'PATCH', '/drives/data', { ...drive, path_on_host: '/nope' })).toMatchObject({
      status: 400,
      body: { fault_message: expect.stringContaining('/nope') },
    });
    expect(await curl(socket, 'PATCH', '/drives/data', drive)).toEqual(DONE);
    expect(await curl(socket, 'GET', '/vm/config')).toMatchObject({
      body: { drives: expect.arrayContaining([expect.objectContaining(drive)]) },
    });
    api.type('cat /sys/block/vdb/size; head -n 1 /dev/vdb; echo third >/dev/vdb; sync\n');
    await api.says(/\n6144\r?\nsecond\r?\n/);
    await until(
      'what the guest wrote is in the other file',
      () => readFileSync(other, 'utf8').startsWith('third'),
      20_000,
    );
    const unlimited = { size: 0, refill_time: 0 };
    expect(
      await curl(socket, 'PATCH', '/drives/data', { drive_id: 'data', rate_limiter: { ops: unlimited } }),
    ).toEqual(DONE);

    expect(
      await put('/snapshot/create', { snapshot_path: at('snap'), mem_file_path: at('mem') }),
    ).toMatchObject({
      status: 400,
    });
    expect(await curl(socket, 'PATCH', '/vm', { state: 'Paused' })).toEqual(DONE);
    expect(await curl(socket, 'GET', '/')).toMatchObject({ body: { state: 'Paused' } });
    expect(await put('/snapshot/create', { snapshot_path: at('snap'), mem_file_path: at('mem') })).toEqual(
      DONE,
    );
    expect(await curl(socket, 'PATCH', '/vm', { state: 'Resumed' })).toEqual(DONE);
    expect(await put('/actions', { action_type: 'SendCtrlAltDel' })).toMatchObject({
      status: 400,
      body: { fault_message: expect.stringContaining('no driver that waits for keys') },
    });
    expect(await put('/actions', { action_type: 'FlushMetrics' })).toEqual(DONE);
    // A line for each time, also of an earlier try.
    const line = JSON.parse(readFileSync(at('metrics'), 'utf8').trim().split('\n').at(-1) ?? '') as {
      exits: { total: number };
    };
    expect(line.exits.total).toBeGreaterThan(0);

    const url = 'http://localhost/tsvm/events';
    const events = await started('curl', ['--silent', '--no-buffer', '--unix-socket', socket, url]);
    const { stdout } = await run('curl', [
      '--silent',
      '--unix-socket',
      socket,
      'http://localhost/tsvm/metrics',
    ]);
    expect(stdout.toString()).toMatch(/^tsvm_exits_total\{machine="guide"/m);
    api.type('reboot -f\n');
    expect(await api.ended).toBe(123);
    expect((await events.ended).stdout.toString()).toMatch(/event: end\ndata: .*"kind":"reset"/);
    expect([existsSync(socket), existsSync(at('vsock'))]).toEqual([false, false]);
  });

  test('is made of a snapshot by another process', async () => {
    const path = at('other.sock');
    const other = await start(path);
    const mem_backend = { backend_path: at('mem'), backend_type: 'File' };
    const load = { snapshot_path: at('snap'), mem_backend };
    const refused = await curl(path, 'PUT', '/snapshot/load', load);
    expect(refused).toMatchObject({
      status: 400,
      body: { fault_message: expect.stringMatching(/asks for disk 0 .*disk 1 .*vsock .*"tsvm_devices": /) },
    });
    expect(await curl(path, 'GET', '/')).toMatchObject({ body: { state: 'Not started' } });
    const { fault_message: fault } = refused.body as { fault_message: string };
    const { vsock: _, ...tsvm_devices } = JSON.parse(fault.slice(fault.indexOf(': {') + 2)) as Record<
      string,
      object
    >;
    const vsock_override = { uds_path: at('vsock-2') };
    expect(await curl(path, 'PUT', '/snapshot/load', { ...load, tsvm_devices, vsock_override })).toEqual(
      DONE,
    );
    expect(await curl(path, 'GET', '/')).toMatchObject({ body: { state: 'Paused' } });
    expect(await curl(path, 'GET', '/vm/config')).toMatchObject({
      body: { drives: [{ drive_id: 'rootfs' }, { drive_id: 'data' }], vsock: vsock_override },
    });
    expect(await curl(path, 'GET', '/machine-config')).toMatchObject({ body: { mem_size_mib: 64 } });
    expect(await curl(path, 'PATCH', '/vm', { state: 'Resumed' })).toEqual(DONE);
    other.type('echo $((40 + 2)); head -n 1 /dev/vdb\n');
    await other.says(/\n42\r?\nthird\r?\n/);
    expect(await curl(path, 'PUT', '/tsvm/stop', {})).toEqual(DONE);
    expect(await other.ended).toBe(130);
  });
});

test('a machine by a file, with and without a socket', async () => {
  const config = { ...(await firecrackerConfig()), serial: { serial_out_path: at('serial') } };
  writeFileSync(at('vm.json'), JSON.stringify(config));
  const api = new Api(['--no-api', '--config-file', at('vm.json')]);
  try {
    await expect
      .poll(() => existsSync(at('serial')) && readFileSync(at('serial'), 'utf8'), { timeout: 100_000 })
      .toMatch(/# /);
  } finally {
    api.kill();
  }
});
