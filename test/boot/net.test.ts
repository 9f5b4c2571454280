/** The default guest on a network: `--net user` both ways, two machines at a switch, and copies of a machine. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { NetSwitch, net, netAt } from '../../src/index.js';
import { tsvm } from '../support/cli.js';
import { freePort } from '../support/free-port.js';
import { ConsoleLog, Session, temporaryDirectory } from '../support/guest.js';
import { passtProblem } from '../support/passt-problem.js';
import { skipAll } from '../support/skip.js';

const BODY_BYTES = 200_000;
const templates = temporaryDirectory();

let server: Server;
let port: number;

beforeAll(async () => {
  server = createServer((request, response) => {
    if (request.url === '/big') response.end(Buffer.alloc(BODY_BYTES, 'x'));
    else response.end(`you asked for ${request.url}\n`);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
});

afterAll(() => void server.close());

/** Fetches from the guest as soon as its server listens. */
async function fetchText(url: string): Promise<string> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await (await fetch(url, { signal: AbortSignal.timeout(20_000) })).text();
    } catch (error) {
      if (attempt === 20) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

describe('--net user', () => {
  skipAll(passtProblem());

  test('fetches from the host’s loopback, serves a forwarded port, and says what it is', async () => {
    const hostPort = await freePort();
    const forwards = [{ protocol: 'tcp', address: '127.0.0.1', port: hostPort, guestPort: 80 }] as const;
    const card = net({ backend: 'user', forwards, loopback: true, mac: '02:00:00:00:00:42' });
    await using session = await Session.boot({ devices: [card] });
    expect((await session.run('cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu')).output).toBe(
      '02:00:00:00:00:42\n65520\n',
    );
    expect((await session.run('cat /etc/resolv.conf && route -n | grep eth0')).output).toMatch(
      /^nameserver 10\.0\.2\.3\n(0\.0\.0\.0 +10\.0\.2\.2 |10\.0\.2\.0 +0\.0\.0\.0 +255\.255\.255\.0 )/,
    );
    const url = `http://10.0.2.2:${port}`;
    expect(await session.run(`wget -q -O - ${url}/hello`)).toEqual({
      output: 'you asked for /hello\n',
      status: 0,
    });
    expect((await session.run(`wget -q -O - ${url}/big | wc -c`)).output.trim()).toBe(String(BODY_BYTES));
    await session.run('mkdir -p /tmp/www && echo from the guest > /tmp/www/index.html');
    expect(await session.run('httpd -p 80 -h /tmp/www')).toMatchObject({ status: 0 });
    expect(await fetchText(`http://127.0.0.1:${hostPort}/index.html`)).toBe('from the guest\n');
  });

  test('of a fork is a network of its own, without the forwarded ports', async () => {
    const hostPort = await freePort();
    const forwards = [{ protocol: 'tcp', address: '127.0.0.1', port: hostPort, guestPort: 80 }] as const;
    await using session = await Session.boot({
      devices: [net({ backend: 'user', forwards, loopback: true })],
    });
    const [fork] = await session.machine.fork(1);
    if (fork === undefined) throw new Error('no fork');
    await using child = fork;
    const log = new ConsoleLog(child);
    child.console.write(Buffer.from(`wget -q -O - http://10.0.2.2:${port}/fork\n`));
    await log.waitFor(/you asked for \/fork/);
    expect((await session.run(`wget -q -O - http://10.0.2.2:${port}/parent`)).output).toBe(
      'you asked for /parent\n',
    );
  });

  test('of tsvm run works from a template', async () => {
    const env = { TSVM_TEMPLATE_DIR: templates };
    for (let i = 0; i < 2; i++) {
      const result = await tsvm(
        [
          'run',
          '--memory',
          '64M',
          '--net',
          'user,loopback=yes',
          '--',
          'wget',
          '-q',
          '-O',
          '-',
          `http://10.0.2.2:${port}/run`,
        ],
        {
          env,
        },
      );
      expect(result).toMatchObject({ status: 0 });
      expect(result.stdout.toString()).toBe('you asked for /run\n');
    }
  }, 300_000);
});

test('two machines at a NetSwitch reach each other', async () => {
  const hub = new NetSwitch();
  await using one = await Session.boot({ devices: [netAt(hub)] });
  await using two = await Session.boot({ devices: [netAt(hub)] });
  await one.run('ip addr add 192.168.7.1/24 dev eth0; ip link set eth0 up');
  await two.run('ip addr add 192.168.7.2/24 dev eth0; ip link set eth0 up');
  await one.run('mkdir -p /tmp/www && echo from one > /tmp/www/index.html && httpd -p 80 -h /tmp/www');
  expect(await two.run('wget -q -O - http://192.168.7.1/index.html')).toEqual({
    output: 'from one\n',
    status: 0,
  });
}, 300_000);
