/** Parts of the client for registries, each by itself: addresses, proxies, challenges, helpers with credentials. */

import { once } from 'node:events';
import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import { registrySettings } from '../../../src/cli/options/registry-options.js';
import { BlobStore } from '../../../src/image/blob-store.js';
import { isLocalName, localKind } from '../../../src/image/registry/address.js';
import { parseChallenges } from '../../../src/image/registry/challenge.js';
import { rulesOf } from '../../../src/image/registry/config.js';
import { askHelper } from '../../../src/image/registry/credential-helper.js';
import { credentialFiles } from '../../../src/image/registry/credentials.js';
import { proxyHeaders } from '../../../src/image/registry/dial.js';
import { proxyFor } from '../../../src/image/registry/proxy.js';
import { Registries } from '../../../src/image/registry/pull.js';
import { temporaryDirectory } from '../../support/guest.js';
import { LyingRegistry } from '../../support/lying-registry.js';
import { AUTHORITY } from '../../support/test-certificates.js';

const folder = temporaryDirectory();
const newFolder = (): string => mkdtempSync(join(folder, 'x-'));

describe('localKind()', () => {
  test.each([
    ...['127.0.0.1', '127.1.2.3', '0.0.0.0', '::1', '::', '::ffff:127.0.0.1', '64:ff9b::7f00:1'],
    ...['169.254.169.254', 'fe80::1', '::ffff:169.254.169.254', '64:ff9b::a9fe:a9fe'],
    ...[
      'fd00:ec2::254',
      '100.100.100.200',
      '168.63.129.16',
      '192.0.0.192',
      '224.0.0.1',
      'ff02::1',
      '255.255.255.255',
    ],
  ])('knows %s', (address) => expect(localKind(address)).toBeDefined());

  test.each(['10.0.0.1', '192.168.1.1', '172.16.0.1', '100.64.0.1', '1.1.1.1', '2606:4700::1111', 'fd12::1'])(
    'lets %s be',
    (address) => expect(localKind(address)).toBeUndefined(),
  );

  test('knows hosts by their names alone, where these say it', () => {
    expect(['localhost', '127.0.0.1', '[::1]', '169.254.169.254'].every(isLocalName)).toBe(true);
    expect(['localhost.example', '10.0.0.1', 'a'].some(isLocalName)).toBe(false);
  });
});

test('rulesOf() finds a host with its port and without, and Docker Hub by either name', () => {
  const config = {
    path: '',
    unqualified: '',
    hosts: new Map([
      ['a.example', { ca: 'a' }],
      ['b.example:443', { ca: 'b' }],
      ['c.example:5000', { ca: 'c' }],
      ['docker.io', { ca: 'd' }],
      ['127.0.0.1:5000', {}],
    ]),
  };
  const of = (url: string) => rulesOf(config, new URL(url));
  expect(of('https://a.example/').ca).toBe('a');
  expect(of('https://a.example:5000/').ca).toBeUndefined();
  expect(of('https://b.example/').ca).toBe('b');
  expect(of('https://c.example:5000/').ca).toBe('c');
  expect(of('https://registry-1.docker.io/')).toMatchObject({ ca: 'd', tokenHosts: ['auth.docker.io'] });
  expect(of('https://registry.gitlab.com/').tokenHosts).toEqual(['gitlab.com']);
  expect([of('http://127.0.0.1:5000/').local, of('http://127.0.0.1:5001/').local]).toEqual([true, false]);
});

test('proxyHeaders() takes credentials of an address, with a % that begins no escape', () => {
  const headerOf = (address: string) =>
    Buffer.from((proxyHeaders(new URL(address))['Proxy-Authorization'] ?? '').slice(6), 'base64').toString();
  expect(headerOf('http://u:a%40b%C3%A9@proxy/')).toBe('u:a@bé');
  expect(headerOf('http://u:100%@proxy/')).toBe('u:100%');
});

describe('proxyFor()', () => {
  const https = 'http://proxy.example:3128';
  const proxyOf = (url: string, no?: string) => proxyFor(new URL(url), { https, no })?.href;
  test('leads by the scheme, and this host never', () => {
    expect(proxyOf('https://a.example/')).toBe(`${https}/`);
    expect(proxyOf('http://a.example/')).toBeUndefined();
    for (const host of ['localhost', '127.0.0.1:5000', '[::1]'])
      expect(proxyOf(`https://${host}/`)).toBeUndefined();
    expect(proxyFor(new URL('http://a/'), { http: 'proxy:80' })?.href).toBe('http://proxy/');
  });
  test.each(['*', 'a.example', '.example', 'example', '*.example', 'b, A.example', 'a.example:443'])(
    'leaves a.example out by NO_PROXY=%s',
    (no) => expect(proxyOf('https://a.example/', no)).toBeUndefined(),
  );
  test.each(['', 'b.example', 'ample', 'a.example:80', 'a'])('does not by NO_PROXY=%s', (no) =>
    expect(proxyOf('https://a.example/', no)).toBeDefined(),
  );
  test.each([
    ['10.1.2.3', '10.1.2.3'],
    ['10.1.2.3', '10.0.0.0/8'],
    ['10.1.2.3:5000', '10.1.2.3:5000'],
    ['[fd00::1]', 'fd00::1'],
    ['[fd00::1]', 'FD00:0::1'],
    ['[fd00::1]', '[fd00::1]'],
    ['[fd00::1]:5000', '[fd00::1]:5000'],
    ['[fd00::1]', 'fd00::/64'],
  ])('leaves %s out by NO_PROXY=%s', (host, no) => expect(proxyOf(`https://${host}/`, no)).toBeUndefined());
  test.each([
    ['10.1.2.3', '11.0.0.0/8'],
    ['10.1.2.3', '1.2.3'],
    ['10.1.2.3', '10.0.0.0/33'],
    ['[fd00::1]', 'fd00::2'],
    ['[fd00::1]', '[fd00::1]:5000'],
    ['[fd00::1]', '10.0.0.0/8'],
    ['a.example', 'a.example/8'],
  ])('does not leave %s out by NO_PROXY=%s', (host, no) =>
    expect(proxyOf(`https://${host}/`, no)).toBeDefined(),
  );
  test('refuses what is no proxy, without saying it: there may be a password in it', () => {
    const socks = 'socks5://user:secret@proxy';
    const error = (() => {
      try {
        proxyFor(new URL('https://a/'), { https: socks });
      } catch (caught) {
        return caught as Error;
      }
      return undefined;
    })();
    expect(error?.message).toBe('HTTPS_PROXY does not name an HTTP proxy');
  });
});

test('parseChallenges() reads several, quoted or not, and stops at rubbish', () => {
  const plain = (header: string) =>
    parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
  expect(plain('Bearer realm="https://a/t",service="s, \\"x\\"" , Scope=b')).toEqual([
    ['bearer', { realm: 'https://a/t', service: 's, "x"', scope: 'b' }],
  ]);
  expect(plain('Basic realm="a", Bearer realm="b"')).toEqual([
    ['basic', { realm: 'a' }],
    ['bearer', { realm: 'b' }],
  ]);
  expect(plain('Negotiate, BASIC')).toEqual([
    ['negotiate', {}],
    ['basic', {}],
  ]);
  for (const header of ['', ',', '"', '===', '\u00e4', `Bearer realm="${'\\'.repeat(30_000)}`]) plain(header);
});

describe('credentials', () => {
  const programs = newFolder();
  vi.stubEnv('PATH', `${programs}:${process.env['PATH']}`);
  afterAll(() => void vi.unstubAllEnvs());
  function helper(name: string, script: string): string {
    const path = join(programs, `docker-credential-${name}`);
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
    return name;
  }
  const file = (value: object): string => {
    const path = join(newFolder(), 'config.json');
    writeFileSync(path, JSON.stringify(value));
    return path;
  };
  const auth = (pair: string) => ({ auth: Buffer.from(pair).toString('base64') });

  test('are those of the longest part of a name that a file has', async () => {
    const path = file({
      auths: {
        'https://index.docker.io/v1/': auth('hub:1'),
        'r.example': auth('all:2'),
        'r.example/team': auth('team:a:b'),
        'https://old.example/v2/': auth('old:3'),
        'empty.example': {},
      },
    });
    const find = credentialFiles([join(folder, 'none.json'), path]);
    expect(await find('docker.io', 'library/debian')).toMatchObject({ username: 'hub', password: '1' });
    expect(await find('r.example', 'teams/x')).toMatchObject({ username: 'all' });
    expect(await find('r.example', 'team/x')).toMatchObject({ username: 'team', password: 'a:b' });
    expect(await find('old.example', 'x')).toMatchObject({ username: 'old' });
    expect(await find('empty.example', 'x')).toBeUndefined();
    expect(await find('sub.r.example', 'x')).toBeUndefined();
  });

  test('are asked of the helper that a file names, by the host alone', async () => {
    helper('good', 'read host; echo "{\\"Username\\":\\"$1\\",\\"Secret\\":\\"$host\\"}"');
    helper('token', 'echo \'{"Username":"<token>","Secret":"t"}\'');
    helper('empty', 'echo credentials not found in native keychain; exit 1');
    const find = credentialFiles([
      file({
        credsStore: 'good',
        credHelpers: { 't.example': 'token', 'e.example': 'empty' },
        auths: { 'e.example': auth('stored:1') },
      }),
    ]);
    expect(await find('docker.io', 'a')).toEqual({
      ...{ kind: 'password', username: 'get', password: 'https://index.docker.io/v1/' },
    });
    expect(await find('t.example', 'a')).toEqual({ kind: 'identity', token: 't' });
    expect(await find('e.example', 'a')).toMatchObject({ username: 'stored' });
  });

  test.each([
    ['../../bin/sh', '', /is not the name of a helper/],
    ['nowhere', undefined, /is not installed/],
    ['fails', 'echo secret >&2; exit 1', /docker-credential-fails failed/],
    ['rubbish', 'echo secret', /does not answer as a helper does/],
    ['flood', 'while :; do echo secretsecretsecretsecretsecretsecret; done', /says more than/],
    ['asleep', 'exec sleep 1000', /did not answer within 0.5 s/],
  ])('are refused of helper %s: one line, without what it said', async (name, script, words) => {
    if (script) helper(name, script);
    const error = await askHelper(name, 'r.example', name === 'asleep' ? 500 : 60_000).catch(
      (caught) => caught,
    );
    expect(error).toMatchObject({ code: 'TSVM_IMAGE', message: expect.stringMatching(words) });
    expect(`${error.message}${error.hint}`).not.toMatch(/secret|\n/);
  });

  test.each([
    ['{', /is not JSON/],
    ['{"auths": []}', /auths/],
    ['{"auths": {"r.example": {"auth": "bm9jb2xvbg=="}}}', /no user and password/],
  ])('in a file with %s are refused, with its name', async (text, words) => {
    const path = join(newFolder(), 'config.json');
    writeFileSync(path, text);
    await expect(credentialFiles([path])('r.example', 'a')).rejects.toMatchObject({
      code: 'TSVM_FILE',
      message: expect.stringMatching(words),
    });
  });
});

test('registrySettings() looks where podman, docker and curl do', () => {
  const variables = {
    XDG_CONFIG_HOME: '/c',
    XDG_RUNTIME_DIR: '/r',
    DOCKER_CONFIG: '/d',
    SSL_CERT_FILE: '/s',
  };
  expect(
    registrySettings({ ...variables, https_proxy: 'a', HTTPS_PROXY: 'b', NODE_EXTRA_CA_CERTS: '' }),
  ).toEqual({
    rules: '/c/tsvm/registries.json',
    credentials: ['/r/containers/auth.json', '/c/containers/auth.json', '/d/config.json'],
    proxy: { http: undefined, https: 'a', no: undefined },
    certificates: ['/s'],
  });
  expect(registrySettings({ ...variables, REGISTRY_AUTH_FILE: '/a' }).credentials).toEqual([
    '/a',
    '/d/config.json',
  ]);
});

describe('a proxy', () => {
  let server: Server | undefined;
  afterEach(() => {
    server?.closeAllConnections();
    server?.close();
  });

  test('is asked for a way to a registry by its name, with its own credentials', async () => {
    await using registry = await LyingRegistry.start({ tls: true });
    registry.image('a', 'latest', [Buffer.from('x')]);
    const asked: (string | undefined)[] = [];
    server = createServer().on('connect', ({ url, headers }: IncomingMessage, socket) => {
      asked.push(url, headers['proxy-authorization']);
      const [host = '', port] = registry.host.split(':');
      const way = connect(Number(port), host, () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
      way.pipe(socket).pipe(way);
      for (const each of [way, socket]) each.on('error', () => {});
    });
    await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
    const ca = join(newFolder(), 'ca.pem');
    writeFileSync(ca, AUTHORITY);
    const { port } = server.address() as AddressInfo;
    using registries = await Registries.open({
      rules: join(folder, 'none.json'),
      credentials: [],
      proxy: { https: `http://user:p%40ss@127.0.0.1:${port}` },
      certificates: [ca],
    });
    const store = new BlobStore(join(newFolder(), 'images'), () => true);
    // The name is known to the proxy alone.
    await registries.pull(registries.parse('registry.test/a'), store, { firstPauseMs: 1 });
    const basic = `Basic ${Buffer.from('user:p@ss').toString('base64')}`;
    expect(asked.slice(0, 2)).toEqual(['registry.test:443', basic]);
  });

  test('that refuses is named, without its password', async () => {
    server = createServer().on('connect', (_request, socket) => socket.end('HTTP/1.1 407 No\r\n\r\n'));
    await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    using registries = await Registries.open({
      rules: join(folder, 'none.json'),
      credentials: [],
      proxy: { https: `http://user:secret@127.0.0.1:${port}` },
      certificates: [],
    });
    const store = new BlobStore(join(newFolder(), 'images'), () => true);
    await expect(registries.pull(registries.parse('registry.test/a'), store)).rejects.toThrow(
      `the proxy 127.0.0.1:${port} refuses to connect to registry.test:443: 407`,
    );
  });

  test.each(['https', 'http'])(
    'that does not answer is waited for no longer when a pull is ended, by %s',
    async (scheme) => {
      const silent = createTcpServer((socket) => socket.once('data', () => silent.emit('asked', socket)));
      const asked = once(silent, 'asked');
      await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
      const { port } = silent.address() as AddressInfo;
      using registries = await Registries.open({
        rules: join(folder, 'none.json'),
        credentials: [],
        proxy: { https: `${scheme}://127.0.0.1:${port}` },
        certificates: [],
      });
      const store = new BlobStore(join(newFolder(), 'images'), () => true);
      const stop = new AbortController();
      const pulling = registries.pull(registries.parse('registry.test/a'), store, { signal: stop.signal });
      const [socket] = (await asked) as [Socket];
      const closed = once(socket, 'close');
      stop.abort(new Error('enough'));
      await expect(pulling).rejects.toThrow('enough');
      await closed;
      silent.close();
    },
  );
});
