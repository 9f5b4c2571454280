/** The API of a machine that has not started, by what goes over the socket. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ControlClient } from '../../../src/control/client/client.js';
import { openApiDocument } from '../../../src/control/http/openapi.js';
import { ControlServer } from '../../../src/control/http/server.js';
import { Instance } from '../../../src/control/instance.js';
import { ConsoleLog } from '../../../src/control/logs/console-log.js';
import { routes } from '../../../src/control/routes.js';
import { eventually } from '../../support/eventually.js';
import { temporaryDirectory } from '../../support/guest.js';

const root = temporaryDirectory();
const socketPath = join(root, 'api.sock');
const file = join(root, 'file');
const instance = new Instance('test', new ConsoleLog());
let server: ControlServer | undefined;
beforeAll(async () => {
  writeFileSync(file, '');
  server = await ControlServer.listen(instance, socketPath);
});
afterAll(() => server?.[Symbol.asyncDispose]());

interface Answer {
  readonly status: number | undefined;
  readonly body: unknown;
}

function ask(method: string, path: string, body?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request(
      { socketPath, method, path, headers: { 'Content-Length': Buffer.byteLength(body ?? '') } },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () =>
          resolve({ status: response.statusCode, body: text === '' ? undefined : JSON.parse(text) }),
        );
      },
    );
    call.on('error', reject);
    call.end(body);
  });
}

const put = (path: string, body: object) => ask('PUT', path, JSON.stringify(body));
const fault = (message: unknown) => ({ status: 400, body: { fault_message: message } });
const DONE = { status: 204, body: undefined };

describe('before the start', () => {
  test('it says what it is, to its owner only', async () => {
    expect(await ask('GET', '/')).toMatchObject({
      status: 200,
      body: { app_name: 'tsvm', id: 'test', state: 'Not started' },
    });
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
  });

  test('defaults are Firecracker’s, and a configuration is kept', async () => {
    expect(await ask('GET', '/machine-config')).toMatchObject({ body: { vcpu_count: 1, mem_size_mib: 128 } });
    expect(await put('/machine-config', { vcpu_count: 2, mem_size_mib: 256 })).toEqual(DONE);
    expect(await ask('PATCH', '/machine-config', '{"mem_size_mib":512}')).toEqual(DONE);
    expect(await put('/boot-source', { kernel_image_path: file })).toEqual(DONE);
    const drive = { drive_id: 'a', path_on_host: file, is_root_device: false, is_read_only: true };
    expect(await put('/drives/a', drive)).toEqual(DONE);
    expect(await put('/drives/a', { ...drive, is_read_only: false })).toEqual(DONE);
    expect(await put('/entropy', {})).toEqual(DONE);
    expect(await ask('GET', '/vm/config')).toMatchObject({
      status: 200,
      body: {
        'machine-config': { vcpu_count: 2, mem_size_mib: 512 },
        'boot-source': { kernel_image_path: file },
        drives: [{ drive_id: 'a', is_read_only: false }],
        entropy: {},
      },
    });
  });

  test('a start that is refused says so in the words of the request', async () => {
    const { body: before } = await ask('GET', '/machine-config');
    expect(await put('/boot-source', { kernel_image_path: file })).toEqual(DONE);
    expect(await put('/machine-config', { vcpu_count: 1, mem_size_mib: 1 })).toEqual(DONE);
    expect(await put('/actions', { action_type: 'InstanceStart' })).toEqual(
      fault(
        expect.stringMatching(
          /^mem_size_mib: 1 MiB is too little for a machine \(.*: `"mem_size_mib": 128`\)$/,
        ),
      ),
    );
    expect(await put('/machine-config', before as object)).toEqual(DONE);
  });

  test.each([
    ['PUT', '/machine-config', '{"vcpu_count":1,"mem_size_mib":1,"x":2}', 'unknown field `x`'],
    ['PUT', '/machine-config', '{"vcpu_count":1}', 'missing field `mem_size_mib`'],
    ['PUT', '/machine-config', '{"vcpu_count":0,"mem_size_mib":1}', '`vcpu_count`'],
    ['PUT', '/machine-config', '{"vcpu_count":"1","mem_size_mib":1}', '`vcpu_count`'],
    ['PUT', '/machine-config', '{', 'JSON'],
    ['PUT', '/machine-config', '', 'JSON'],
    ['PUT', '/machine-config', '[]', 'object'],
    [
      'PUT',
      '/drives/b',
      '{"drive_id":"a","is_root_device":false,"path_on_host":"/x"}',
      'does not match the id',
    ],
    ['PUT', '/drives/..', '{"drive_id":"..","is_root_device":false}', 'Invalid request method'],
    ['PUT', '/network-interfaces/a', '{"iface_id":"a"}', 'missing field `host_dev_name`'],
    [
      'PUT',
      `/network-interfaces/${'a'.repeat(65)}`,
      `{"iface_id":"${'a'.repeat(65)}","host_dev_name":"tap0"}`,
      'at most 64 characters',
    ],
    ['PUT', '/boot-source', '{"kernel_image_path":"/nope"}', 'The kernel file cannot be opened'],
    ['PUT', '/actions', '{"action_type":"Explode"}', '`action_type`'],
    ['PUT', '/actions', '{"action_type":"FlushMetrics"}', 'Logger was not initialized'],
    ['PATCH', '/vm', '{"state":"Paused"}', 'not supported before starting'],
    ['PUT', '/snapshot/create', '{"snapshot_path":"a","mem_file_path":"b"}', 'not supported before starting'],
    ['PUT', '/snapshot/load', '{"snapshot_path":"/nope"}', 'Exactly one of'],
    ['PUT', '/snapshot/load', '{"snapshot_path":"/nope","mem_file_path":"x"}', '/nope'],
    ['GET', '/balloon', undefined, 'Balloon device not found'],
    ['GET', '/tsvm/stats', undefined, 'not supported before starting'],
    ['PUT', '/mmds', '{"a":1}', 'not supported: mmds: there is no metadata service here'],
    ['GET', '/mmds', undefined, 'not supported: mmds'],
    ['PUT', '/mmds/config', '{"network_interfaces":["eth0"]}', 'not supported: mmds'],
    ['PUT', '/cpu-config', '{}', 'not supported: cpu-config'],
    ['PATCH', '/hotplug/memory', '{"requested_size_mib":1}', 'not supported: hotplug/memory'],
    ['GET', '/nothing', undefined, 'Invalid request method and/or path: GET /nothing.'],
    ['POST', '/machine-config', '{}', 'Invalid request method and/or path: POST /machine-config.'],
    ['GET', '/version', '{}', 'has no body'],
  ])('%s %s %s: %s', async (method, path, body, why) => {
    expect(await ask(method, path, body)).toEqual(fault(expect.stringContaining(why)));
  });

  test('a body without end is refused as too large', async () => {
    expect(await ask('PUT', '/machine-config', ' '.repeat(60_000))).toMatchObject({ status: 413 });
  });

  test('what is no HTTP ends the connection, and nothing else', async () => {
    const socket = connect(socketPath);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.resume().on('error', () => {});
    socket.end('\0\0\0 nonsense\r\n\r\n');
    await closed;
    expect((await ask('GET', '/version')).status).toBe(200);
  });

  test('requests are logged where it was asked for', async () => {
    const log_path = join(root, 'log');
    expect(await put('/logger', { log_path, level: 'Info', show_level: true })).toEqual(DONE);
    await ask('GET', '/version');
    await eventually(() => readFileSync(log_path, 'utf8')).toMatch(/\[test\] Info GET \/version 200\n/);
    expect(await put('/logger', { log_path: join(root, 'nowhere/log') })).toEqual(
      fault(expect.stringContaining('cannot be written')),
    );
  });

  test('a pipe in the place of a disk or kernel is refused, however often, and all else is answered', async () => {
    const path = join(root, 'fifo');
    execFileSync('mkfifo', [path]);
    // More than libuv has threads.
    for (let i = 0; i < 6; i++) {
      const drive = { drive_id: 'fifo', path_on_host: path, is_root_device: false };
      expect(await put('/drives/fifo', drive)).toEqual(
        fault(expect.stringContaining('neither a file nor a block device')),
      );
      expect(await put('/boot-source', { kernel_image_path: path })).toEqual(
        fault(expect.stringContaining('neither a file')),
      );
    }
    expect(
      await put('/drives/device', { drive_id: 'device', path_on_host: '/dev/null', is_root_device: false }),
    ).toEqual(fault(expect.stringContaining('neither a file')));
    expect((await readFile(file)).length).toBe(0);
  });

  test('a pipe that nobody reads is taken, however often, and all else is answered', async () => {
    const [log_path, metrics_path, serial_out_path] = ['log', 'metrics', 'serial'].map((name) => {
      const path = join(root, `${name}.fifo`);
      execFileSync('mkfifo', [path]);
      return path;
    });
    for (let i = 0; i < 6; i++) {
      expect(await put('/logger', { log_path })).toEqual(DONE);
      expect(await put('/metrics', { metrics_path })).toEqual(DONE);
      expect(await put('/serial', { serial_out_path })).toEqual(DONE);
    }
    expect(await put('/boot-source', { kernel_image_path: file })).toEqual(DONE);
  });

  test('the client says in one line who refused what', async () => {
    const client = new ControlClient(socketPath, 'web');
    await expect(client.call('PATCH', '/vm', { body: { state: 'Paused' } })).rejects.toThrow(
      'web: The requested operation is not supported before starting',
    );
    await expect(client.attach()).rejects.toThrow(
      'web: The requested operation is not supported before starting',
    );
    const gone = new ControlClient(join(root, 'gone.sock'), 'web');
    await expect(gone.call('GET', '/')).rejects.toThrow(/web: nobody answers at .*gone\.sock/);
  });
});

describe('the document', () => {
  const document = openApiDocument(routes) as {
    readonly paths: Record<string, Record<string, { requestBody?: object }>>;
  };

  test('has every route, with the schema that it is checked by', async () => {
    for (const { method, path, body } of routes) {
      const operation = document.paths[path]?.[method.toLowerCase()];
      expect(operation, `${method} ${path}`).toBeDefined();
      expect(operation?.requestBody === undefined).toBe(body === undefined);
    }
    expect(JSON.stringify(document.paths['/machine-config'])).toContain('"mem_size_mib"');
    expect((await ask('GET', '/tsvm/openapi.json')).body).toEqual(JSON.parse(JSON.stringify(document)));
  });

  test('has no path twice, and none that another hides', () => {
    const all = routes.map(({ method, path }) => `${method} ${path.replace(/\{\w+\}/g, '{}')}`);
    expect(new Set(all).size).toBe(all.length);
  });
});

test('the socket is gone with the server', async () => {
  const path = join(root, 'other.sock');
  const other = await ControlServer.listen(new Instance('other', new ConsoleLog()), path);
  await expect(ControlServer.listen(instance, path)).rejects.toThrow(
    'another machine or program listens there',
  );
  await other[Symbol.asyncDispose]();
  expect(existsSync(path)).toBe(false);
});
