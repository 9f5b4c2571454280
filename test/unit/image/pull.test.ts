/** Images from a registry that is right, and from ones that lie, cut off, are busy, or want what is not theirs. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { BlobStore } from '../../../src/image/blob-store.js';
import { digestOf } from '../../../src/image/digest.js';
import {
  type PullEvent,
  type PullOptions,
  Registries,
  type RegistrySettings,
} from '../../../src/image/registry/pull.js';
import { temporaryDirectory } from '../../support/guest.js';
import {
  INDEX_TYPE,
  LyingRegistry,
  MANIFEST_TYPE,
  type SentDescriptor,
} from '../../support/lying-registry.js';
import { AUTHORITY } from '../../support/test-certificates.js';

const folder = temporaryDirectory();
const LAYERS = [randomBytes(300_000), randomBytes(1000), Buffer.from('small')];

const open: LyingRegistry[] = [];
afterEach(async () => {
  for (const registry of open.splice(0)) await registry[Symbol.asyncDispose]();
});
async function start(options: { tls?: boolean } = {}): Promise<LyingRegistry> {
  const registry = await LyingRegistry.start(options);
  open.push(registry);
  return registry;
}

const newFolder = (): string => mkdtempSync(join(folder, 'x-'));
/** Store whose lock is always free: these tests have one writer at a time. */
const newStore = (): BlobStore => new BlobStore(join(newFolder(), 'images'), () => true);

function settings(registries: object, more: Partial<RegistrySettings> = {}): RegistrySettings {
  const rules = join(newFolder(), 'registries.json');
  writeFileSync(rules, JSON.stringify({ registries }));
  return { rules, credentials: [], proxy: {}, certificates: [], silenceMs: 15_000, ...more };
}
const plain = (...hosts: { host: string }[]): object =>
  Object.fromEntries(hosts.map(({ host }) => [host, { plainHttp: true }]));

async function pull(name: string, how: RegistrySettings, store = newStore(), options: PullOptions = {}) {
  using registries = await Registries.open(how);
  return await registries.pull(registries.parse(name), store, { firstPauseMs: 1, ...options });
}
const blobsOf = (store: BlobStore): string[] =>
  store
    .list()
    .map(({ digest }) => digest)
    .sort();
const send = (response: ServerResponse, status: number, headers: object = {}, body = ''): true => {
  response.writeHead(status, { 'Content-Length': Buffer.byteLength(body), ...headers }).end(body);
  return true;
};

describe('Registries.pull()', () => {
  test('keeps all blobs of an image, the manifest last, and fetches none twice', async () => {
    const registry = await start();
    const manifest = registry.image('a/b', '1', [...LAYERS, LAYERS[2] as Buffer]);
    const store = newStore();
    const events: PullEvent[] = [];
    const image = await pull(`${registry.host}/a/b:1`, settings(plain(registry)), store, {
      onEvent: (event) => events.push(event),
      onStored: ({ digest }) => expect(store.sizeOf(digest)).toBe(manifest.size),
    });
    expect(image).toMatchObject({ digest: manifest.digest, manifest });
    expect(blobsOf(store)).toEqual([...registry.blobs.keys(), manifest.digest].sort());
    for (const [digest, bytes] of registry.blobs) expect(readFileSync(store.pathOf(digest))).toEqual(bytes);
    expect(events.filter(({ kind }) => kind === 'layers')).toHaveLength(1);
    const asked = registry.requests.length;
    await pull(`${registry.host}/a/b:1`, settings(plain(registry)), store);
    expect(registry.paths.slice(asked)).toEqual(['a/b/manifests/1']);
    await pull(`${registry.host}/a/b@${manifest.digest}`, settings(plain(registry)));
  });

  test('chooses linux/amd64 of an index, by its variant', async () => {
    const registry = await start();
    const forPlatform = (architecture: string, variant?: string) => ({
      ...registry.image('a', undefined, [Buffer.from(`${architecture}${variant}`)]),
      // As programs in Go write what is not there.
      platform: { os: 'linux', architecture, variant: variant ?? null },
    });
    const [arm, first, third] = [forPlatform('arm64'), forPlatform('amd64'), forPlatform('amd64', 'v3')];
    const attested = { ...arm, platform: { os: 'unknown', architecture: 'unknown' } };
    const index = registry.document(
      'a',
      'all',
      { schemaVersion: 2, mediaType: INDEX_TYPE, manifests: [attested, third, arm, first] },
      INDEX_TYPE,
    );
    const how = settings(plain(registry));
    const store = newStore();
    const image = await pull(`${registry.host}/a:all`, how, store);
    expect([image.digest, image.manifest.digest]).toEqual([index.digest, first.digest]);
    expect(blobsOf(store)).toEqual(expect.arrayContaining([index.digest, first.digest]));
    const newer = await pull(`${registry.host}/a:all`, how, store, { level: 4 });
    expect(newer.manifest.digest).toBe(third.digest);
    const list = (tag: string, manifests: object[]) =>
      registry.document('a', tag, { schemaVersion: 2, manifests }, INDEX_TYPE);
    list('arm', [arm, attested]);
    list('new', [third]);
    list('empty', []);
    await expect(pull(`${registry.host}/a:arm`, how)).rejects.toMatchObject({
      message: expect.stringContaining('there is no image for linux/amd64'),
      hint: 'it is for linux/arm64',
    });
    await expect(pull(`${registry.host}/a:new`, how)).rejects.toMatchObject({
      hint: expect.stringContaining('--platform linux/amd64/v3'),
    });
    await expect(pull(`${registry.host}/a:empty`, how)).rejects.toThrow('no image for linux/amd64');
  });

  test('goes on with a blob that was cut off, again and again, by ranges', async () => {
    const registry = await start();
    registry.image('a', 'latest', [LAYERS[0] as Buffer]);
    const ranges: (string | undefined)[] = [];
    registry.answer = ({ url = '', headers }, response) => {
      const blob = registry.blobs.get(url.replace(/^.*\/blobs\//, ''));
      if (blob === undefined || blob.length < 1000) return false;
      ranges.push(headers.range);
      const from = Number(/\d+/.exec(headers.range ?? '0')?.[0]);
      if (from > 200_000) return false;
      const headersSent = { 'Content-Length': blob.length - from, 'Content-Range': `bytes ${from}-` };
      response.writeHead(from > 0 ? 206 : 200, headersSent);
      response.write(blob.subarray(from, from + 70_000), () => response.destroy());
      return true;
    };
    const notes: string[] = [];
    const store = newStore();
    await pull(`${registry.host}/a`, settings(plain(registry)), store, {
      onEvent: (event) => event.kind === 'note' && notes.push(event.text),
    });
    expect(ranges.length).toBeGreaterThan(2);
    expect(ranges[0]).toBeUndefined();
    expect(new Set(ranges).size).toBe(ranges.length);
    expect(notes[0]).toMatch(/the connection was cut; trying again in 1 s/);
  });

  test('goes on from an earlier pull, also where the registry knows no ranges', async () => {
    const registry = await start();
    registry.image('a', 'latest', [LAYERS[0] as Buffer]);
    const how = settings(plain(registry));
    const store = newStore();
    const serve = registry.answer;
    registry.answer = ({ url = '' }, response) => {
      const blob = registry.blobs.get(url.replace(/^.*\/blobs\//, ''));
      if (blob === undefined || blob.length < 1000) return false;
      response.writeHead(200, { 'Content-Length': blob.length });
      response.write(blob.subarray(0, 100_000), () => response.destroy());
      return true;
    };
    await expect(pull(`${registry.host}/a`, how, store)).rejects.toMatchObject({
      code: 'TSVM_HOST',
      message: expect.stringContaining('the connection was cut'),
    });
    expect(blobsOf(store)).toHaveLength(1);
    const left = readdirSync(join(store.directory, 'blobs/sha256')).filter((name) =>
      name.endsWith('.partial'),
    );
    expect(left).toHaveLength(1);
    registry.answer = serve;
    const asked = registry.requests.length;
    registry.answer = (request) => {
      delete request.headers.range;
      return false;
    };
    await pull(`${registry.host}/a`, how, store);
    expect(registry.paths.slice(asked).filter((path) => path.includes('/blobs/'))).toHaveLength(1);
  });

  test('tries again after 429 and 5xx, as soon as it is asked to', async () => {
    const registry = await start();
    registry.image('a', 'latest', LAYERS);
    const failures = [500, 429, 503, 502];
    registry.answer = (_, response) => {
      const status = failures.pop();
      return status === undefined ? false : send(response, status, { 'Retry-After': '0' });
    };
    await pull(`${registry.host}/a`, settings(plain(registry)));
    registry.answer = (_, response) => send(response, 429, { 'Retry-After': '3600' });
    const asked = registry.requests.length;
    await expect(pull(`${registry.host}/a`, settings(plain(registry)))).rejects.toThrow(
      /too many requests \(429\), and asks to wait 3600 s/,
    );
    registry.answer = (_, response) => send(response, 500);
    await expect(pull(`${registry.host}/a`, settings(plain(registry)))).rejects.toThrow(/it answers 500/);
    expect(registry.requests.length - asked).toBe(1 + 5);
  });

  test('stops when it is told to, and the layers beside one that fails', async () => {
    const registry = await start();
    const big = registry.image('a', 'latest', [LAYERS[0] as Buffer, LAYERS[1] as Buffer]);
    const how = settings(plain(registry));
    const hangs = (name: string) => {
      registry.answer = ({ url = '' }, response) => {
        if (!url.includes('/blobs/')) return false;
        const blob = registry.blobs.get(url.replace(/^.*\/blobs\//, '')) as Buffer;
        if (blob.length > 100_000) {
          response.writeHead(200, { 'Content-Length': blob.length });
          response.write(blob.subarray(0, 1000));
          return true;
        }
        return blob.length > 500 && name === 'fails' ? send(response, 404) : false;
      };
    };
    hangs('fails');
    await expect(pull(`${registry.host}/a`, how)).rejects.toThrow(/has lost this part of the image/);
    hangs('forever');
    const stop = new AbortController();
    const store = newStore();
    const pulling = pull(`${registry.host}/a`, how, store, {
      signal: stop.signal,
      onEvent: (event) =>
        event.kind === 'progress' && event.bytes === 1000 && stop.abort(new Error('enough')),
    });
    await expect(pulling).rejects.toThrow('enough');
    expect(store.sizeOf(big.digest)).toBeUndefined();
  });

  test('waits no longer than it may for a registry that is silent', async () => {
    const registry = await start();
    registry.answer = () => true;
    const how = settings(plain(registry), { silenceMs: 100 });
    await expect(pull(`${registry.host}/a`, how)).rejects.toThrow(/nothing came for 0.1 s/);
  });
});

describe('a registry', () => {
  const wrongBlob = (change: (bytes: Buffer) => Buffer) => (registry: LyingRegistry) => {
    registry.image('a', 'latest', [LAYERS[0] as Buffer]);
    for (const [digest, bytes] of registry.blobs)
      if (bytes.length > 1000) registry.blobs.set(digest, change(bytes));
  };
  const wrongManifest =
    (change: object, type = MANIFEST_TYPE) =>
    (registry: LyingRegistry) => {
      registry.image('a', undefined, LAYERS);
      const config = registry.blob(Buffer.from('{}'), 'application/vnd.oci.image.config.v1+json');
      registry.document('a', 'latest', { schemaVersion: 2, config, layers: [], ...change }, type);
    };
  const layer = (more: Partial<SentDescriptor> & object) => ({
    layers: [
      {
        mediaType: 'application/vnd.oci.image.layer.v1.tar',
        digest: digestOf(LAYERS[1] as Buffer),
        size: 1,
        ...more,
      },
    ],
  });
  test.each<[string, (registry: LyingRegistry) => void, RegExp]>([
    ['sends another blob', wrongBlob((bytes) => Buffer.alloc(bytes.length)), /what came has the digest/],
    [
      'sends a longer blob',
      wrongBlob((bytes) => Buffer.concat([bytes, bytes])),
      /has at least \d+ bytes, and should have/,
    ],
    [
      'sends a shorter blob',
      wrongBlob((bytes) => bytes.subarray(1)),
      /the connection was cut|has only|it answers/,
    ],
    [
      'sends a blob without end',
      (registry) => {
        registry.image('a', 'latest', [LAYERS[0] as Buffer]);
        registry.answer = ({ url = '' }, response) => {
          if (!url.includes('/blobs/')) return false;
          const more = (): unknown =>
            response.destroyed || response.write(Buffer.alloc(65536), () => setImmediate(more));
          more();
          return true;
        };
      },
      /has at least \d+ bytes, and should have/,
    ],
    [
      'changes to another protocol',
      (registry) => {
        registry.answer = (_, { socket }) =>
          socket?.write('HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n') === true;
      },
      /changes to another protocol/,
    ],
    [
      'sends another part',
      (registry) => {
        registry.image('a', 'latest', [LAYERS[0] as Buffer]);
        registry.answer = ({ url = '', headers }, response) => {
          const blob = registry.blobs.get(url.replace(/^.*\/blobs\//, ''));
          if (blob === undefined || blob.length < 1000) return false;
          if (headers.range !== undefined)
            return send(response, 206, { 'Content-Range': 'bytes 0-9/10' }, '0123456789');
          response.writeHead(200, { 'Content-Length': blob.length });
          response.write(blob.subarray(0, 70_000), () => response.destroy());
          return true;
        };
      },
      /it sends another part/,
    ],
    [
      'sends another manifest than the digest says',
      (registry) => {
        registry.image('a', 'latest', LAYERS);
        registry.answer = ({ url = '' }, response) => {
          if (!url.includes('/manifests/')) return false;
          const { bytes } = registry.documents.get('a/manifests/latest') as { bytes: Buffer };
          return send(
            response,
            200,
            { 'Docker-Content-Digest': digestOf(Buffer.from('x')) },
            bytes.toString(),
          );
        };
      },
      /its manifest should be sha256:\w+, and what came is/,
    ],
    ['has an image of schema 1', wrongManifest({ schemaVersion: 1 }), /schema 1, of before 2016/],
    [
      'says schema 1',
      wrongManifest({}, 'application/vnd.docker.distribution.manifest.v1+prettyjws'),
      /schema 1/,
    ],
    [
      'lies about the type',
      wrongManifest({ mediaType: INDEX_TYPE }),
      /sent as .*manifest.*, and says that it is .*index/,
    ],
    ['has what is no image', wrongManifest({}, 'text/html'), /no image \(text\/html\)/],
    ['has both in one', wrongManifest({ manifests: [] }), /an index and a manifest in one/],
    [
      'has a chart',
      wrongManifest({
        config: {
          mediaType: 'application/vnd.cncf.helm.config.v1+json',
          digest: digestOf(Buffer.from('')),
          size: 0,
        },
      }),
      /no image of a system, but .*helm/,
    ],
    [
      'has foreign layers',
      wrongManifest(layer({ urls: ['http://127.0.0.1/'] } as object)),
      /a type that is not known/,
    ],
    [
      'has layers of another type',
      wrongManifest(layer({ mediaType: 'text/plain' })),
      /a type that is not known: text\/plain/,
    ],
    ['has an artifact', wrongManifest({ artifactType: 'x/y' }), /no image of a system, but x\/y/],
    [
      'writes lines of its own',
      wrongManifest({ artifactType: 'x\nhint: y' }),
      /artifactType is not a word of ASCII/,
    ],
    ['writes megabytes', wrongManifest({ artifactType: 'x'.repeat(1 << 20) }), /artifactType .*255/],
    ['says manifest of an index', wrongManifest({ config: null, layers: null, manifests: [] }), /is none/],
    ['says no schema', wrongManifest({ schemaVersion: null }), /schema none, and not 2/],
    [
      'has a layer of no length',
      wrongManifest(layer({ size: null } as object)),
      /what sha256:\w+ is, or how long/,
    ],
    ['has a bad digest', wrongManifest(layer({ digest: 'sha256:../../../x' })), /is not a SHA-256 digest/],
    ['has a negative size', wrongManifest(layer({ size: -1 })), /layers.0.size/],
    ['has a huge layer', wrongManifest(layer({ size: 2 ** 52 })), /layers.0.size/],
    [
      'has more layers than fit a disk',
      wrongManifest({ layers: Array(3).fill(layer({ size: 2 ** 37 }).layers[0]) }),
      /256 GiB are the most/,
    ],
    ['has too many layers', wrongManifest({ layers: Array(501).fill(layer({}).layers[0]) }), /layers/],
    [
      'has an image for arm64',
      (registry) => void registry.image('a', 'latest', LAYERS, {}, { os: 'linux', architecture: 'arm64' }),
      /it is for linux\/arm64/,
    ],
    [
      'has indexes without end',
      (registry) => {
        let below = {
          ...registry.image('a', undefined, LAYERS),
          platform: { os: 'linux', architecture: 'amd64' },
        };
        for (let i = 0; i < 6; i++)
          below = {
            ...below,
            ...registry.document('a', 'latest', { schemaVersion: 2, manifests: [below] }, INDEX_TYPE),
          };
      },
      /indexes within indexes/,
    ],
    [
      'has a huge manifest',
      (registry) => {
        registry.documents.set('a/manifests/latest', {
          bytes: Buffer.alloc(5 << 20, ' '),
          type: MANIFEST_TYPE,
        });
      },
      /longer than 4194304 bytes/,
    ],
    [
      'has rubbish for a manifest',
      (registry) => {
        registry.documents.set('a/manifests/latest', {
          bytes: Buffer.from([0xff, 0xfe, 0]),
          type: MANIFEST_TYPE,
        });
      },
      /is not JSON/,
    ],
    ['has nothing', () => {}, /\/a:latest: the registry has no such image/],
    [
      'sends a head without end',
      (registry) => {
        registry.answer = (_, response) => {
          response.socket?.end(`HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(20_000)}\r\n`);
          return true;
        };
      },
      /not HTTP, or too long/,
    ],
    [
      'compresses what it sends',
      (registry) => {
        registry.answer = (_, response) => send(response, 200, { 'Content-Encoding': 'gzip' }, 'x');
      },
      /Content-Encoding: gzip/,
    ],
    [
      'redirects in a circle',
      (registry) => {
        registry.answer = ({ url }, response) => send(response, 307, { Location: url });
      },
      /redirects again and again/,
    ],
    [
      'redirects to a file',
      (registry) => {
        registry.answer = (_, response) => send(response, 302, { Location: 'file:///etc/passwd' });
      },
      /redirects to what is no address/,
    ],
    [
      'redirects to a metadata address',
      (registry) => {
        registry.answer = (_, response) =>
          send(response, 302, { Location: 'https://169.254.169.254/latest/' });
      },
      /169.254.169.254, an address of a link/,
    ],
    [
      'redirects to this host',
      (registry) => {
        registry.answer = (_, response) => send(response, 302, { Location: 'https://localhost:1/' });
      },
      /localhost:1 leads to [\d.:]+, an address of this host/,
    ],
    [
      'redirects to plain HTTP elsewhere',
      (registry) => {
        registry.answer = (_, response) => send(response, 302, { Location: 'http://192.0.2.1/' });
      },
      /192.0.2.1 would be asked over http/,
    ],
    [
      'asks for credentials in another way',
      (registry) => {
        registry.answer = (_, response) => send(response, 401, { 'WWW-Authenticate': 'Negotiate' });
      },
      /asks for credentials in a way that is not known/,
    ],
    [
      'wants credentials that nobody has',
      (registry) => {
        registry.answer = (_, response) => send(response, 401, { 'WWW-Authenticate': 'Basic realm="x"' });
      },
      /wants credentials, and there are none/,
    ],
  ])('that %s is refused, and its image is not kept', async (_, lie, words) => {
    const registry = await start();
    lie(registry);
    const store = newStore();
    const error = await pull(`${registry.host}/a`, settings(plain(registry)), store).catch((e) => e);
    expect(`${error.message}`).toMatch(words);
    expect(['TSVM_IMAGE', 'TSVM_HOST']).toContain(error.code);
    expect(error.message).not.toContain('\n');
    const manifest = registry.documents.get('a/manifests/latest')?.bytes ?? Buffer.alloc(0);
    expect(store.sizeOf(digestOf(manifest))).toBeUndefined();
  });
});

describe('credentials', () => {
  const PASSWORD = 'geheim';
  const auth = Buffer.from(`user:${PASSWORD}`).toString('base64');
  const login = (host: string, entry: object = { auth }): Partial<RegistrySettings> => {
    const path = join(newFolder(), 'auth.json');
    writeFileSync(path, JSON.stringify({ auths: { [host]: entry } }));
    return { credentials: [join(folder, 'missing.json'), path] };
  };

  /** Has a registry want a token of `realm`'s host, and a credential for that. */
  function guard(registry: LyingRegistry, realm: LyingRegistry, token = 'tok3n'): void {
    const challenge = `Bearer realm="http://${realm.host}/token",service="registry",scope="repository:other:*"`;
    const isToken = (url?: string) => url?.startsWith('/token') === true;
    const answerAt = (at: LyingRegistry): void => {
      at.answer = ({ url, headers }, response) => {
        if (isToken(url)) {
          return headers.authorization === `Basic ${auth}`
            ? send(response, 200, {}, JSON.stringify({ token, expires_in: 300 }))
            : send(response, 401);
        }
        return at === registry && headers.authorization !== `Bearer ${token}`
          ? send(response, 401, { 'WWW-Authenticate': challenge })
          : false;
      };
    };
    answerAt(registry);
    answerAt(realm);
  }

  test('are given for a token once, for reading that repository alone', async () => {
    const registry = await start();
    registry.image('a', 'latest', LAYERS);
    guard(registry, registry);
    await pull(`${registry.host}/a`, settings(plain(registry), login(registry.host)));
    const tokens = registry.paths.filter((path) => path.startsWith('/token'));
    expect(tokens).toEqual(['/token?service=registry&scope=repository%3Aa%3Apull']);
  });

  test('are given to the registry itself where it wants that, and refused in a line', async () => {
    const registry = await start();
    registry.image('a', 'latest', LAYERS);
    registry.answer = ({ headers }, response) =>
      headers.authorization === `Basic ${auth}`
        ? false
        : send(response, 401, { 'WWW-Authenticate': 'Basic realm="r"' });
    await pull(`${registry.host}/a`, settings(plain(registry), login(`http://${registry.host}/v2/`)));
    const wrong = login(registry.host, { auth: Buffer.from('user:other').toString('base64') });
    await expect(pull(`${registry.host}/a`, settings(plain(registry), wrong))).rejects.toMatchObject({
      message: expect.stringMatching(/it is not there, or the registry does not give it to you/),
      hint: expect.stringContaining(`podman login ${registry.host}`),
    });
  });

  test('are given as an identity token', async () => {
    const registry = await start();
    registry.image('a', 'latest', LAYERS);
    let form = '';
    registry.answer = (request, response) => {
      if (request.url === '/token') {
        request.setEncoding('utf8').on('data', (text) => {
          form += text;
        });
        request.on('end', () => send(response, 200, {}, '{"token":"","access_token":"t"}'));
        return true;
      }
      const challenge = `Bearer realm="http://${registry.host}/token",service="s"`;
      return request.headers.authorization === 'Bearer t'
        ? false
        : send(response, 401, { 'WWW-Authenticate': challenge });
    };
    const how = login(registry.host, { identitytoken: 'long' });
    await pull(`${registry.host}/a`, settings(plain(registry), how));
    expect(Object.fromEntries(new URLSearchParams(form))).toEqual({
      ...{ grant_type: 'refresh_token', client_id: 'tsvm', refresh_token: 'long' },
      ...{ service: 's', scope: 'repository:a:pull' },
    });
  });

  test('go to no other host for a token, unless the rules name it', async () => {
    const [registry, other] = [await start(), await start()];
    registry.image('a', 'latest', LAYERS);
    guard(registry, other);
    const refused = pull(`${registry.host}/a`, settings(plain(registry, other), login(registry.host)));
    await expect(refused).rejects.toMatchObject({
      message: `${registry.host}: it would have its credentials be sent to ${other.host}`,
      hint: expect.stringContaining(
        `{"registries": {"${registry.host}": {"tokenHosts": ["${other.host}"]}}}`,
      ),
    });
    expect(other.requests).toEqual([]);
    const rules = {
      ...plain(registry, other),
      [registry.host]: { plainHttp: true, tokenHosts: [other.host] },
    };
    await pull(`${registry.host}/a`, settings(rules, login(registry.host)));
  });

  test('and tokens go to no host that is redirected to', async () => {
    const [registry, other] = [await start(), await start()];
    registry.image('a', 'latest', LAYERS);
    guard(registry, registry);
    const guarded = registry.answer;
    for (const [digest, bytes] of registry.blobs) other.blobs.set(digest, bytes);
    registry.answer = (request, response) =>
      request.url?.includes('/blobs/') && request.headers.authorization !== undefined
        ? send(response, 307, { Location: `http://${other.host}${request.url}` })
        : guarded(request, response);
    await pull(`${registry.host}/a`, settings(plain(registry, other), login(registry.host)));
    expect(other.requests).toHaveLength(4);
    expect(other.requests.map(({ headers }) => headers.authorization)).toEqual(Array(4).fill(undefined));
  });

  test.each([
    ['nothing', 200, ''],
    ['rubbish', 200, '<html>'],
    ['no token', 200, '{"token":""}'],
    ['two lines', 200, '{"token":"a\\r\\nX: y"}'],
    ['an endless one', 200, `{"token":"${'t'.repeat(100_000)}"}`],
    ['a redirect', 302, ''],
    ['a refusal', 403, ''],
  ])('are answered with %s for a token: one line', async (_, status, body) => {
    const registry = await start();
    registry.answer = ({ url = '' }, response) =>
      url.startsWith('/token')
        ? send(response, status, { Location: 'http://127.0.0.1:1/' }, body)
        : send(response, 401, { 'WWW-Authenticate': `Bearer realm="http://${registry.host}/token"` });
    const error = await pull(`${registry.host}/a`, settings(plain(registry), login(registry.host))).catch(
      (e) => e,
    );
    expect(error.code).toBe('TSVM_IMAGE');
    expect(error.message).not.toContain('\n');
    expect(`${error.message} ${error.hint}`).not.toContain(PASSWORD);
  });
});

describe('rules for registries', () => {
  test('are needed for plain HTTP, and for this host by another name', async () => {
    const [registry, tls] = [await start(), await start({ tls: true })];
    await expect(pull(`${registry.host}/a`, settings({}))).rejects.toMatchObject({
      message: expect.stringContaining('leads to 127.0.0.1, an address of this host'),
      hint: expect.stringContaining('"local": true'),
    });
    await expect(pull(`${registry.host}/a`, settings({ [registry.host]: {} }))).rejects.toMatchObject({
      message: expect.stringContaining('it does not speak TLS'),
      hint: expect.stringContaining('"plainHttp": true'),
    });
    expect([registry.requests, tls.requests]).toEqual([[], []]);
  });

  test('have a certificate of one’s own authority trusted, as SSL_CERT_FILE has', async () => {
    const registry = await start({ tls: true });
    registry.image('a', 'latest', LAYERS);
    const ca = join(newFolder(), 'ca.pem');
    writeFileSync(ca, AUTHORITY);
    await expect(pull(`${registry.host}/a`, settings({ [registry.host]: {} }))).rejects.toMatchObject({
      message: expect.stringMatching(/its certificate is not trusted/),
      hint: expect.stringContaining('"ca"'),
    });
    await pull(`${registry.host}/a`, settings({ [registry.host]: { ca } }));
    await pull(`${registry.host}/a`, settings({ [registry.host]: {} }, { certificates: [ca] }));
    const missing = settings({ [registry.host]: { ca: '/nonexistent.pem' } });
    await expect(pull(`${registry.host}/a`, missing)).rejects.toThrow(/nonexistent.pem: no such file/);
  });

  test('never have TLS be left by a redirect', async () => {
    const [registry, other] = [await start({ tls: true }), await start()];
    const ca = join(newFolder(), 'ca.pem');
    writeFileSync(ca, AUTHORITY);
    registry.answer = (_, response) => send(response, 302, { Location: `http://${other.host}/` });
    const how = settings({ ...plain(other), [registry.host]: { ca } });
    await expect(pull(`${registry.host}/a`, how)).rejects.toThrow(/redirects to .* without TLS/);
    registry.answer = (_, response) =>
      send(response, 401, { 'WWW-Authenticate': `Bearer realm="http://${other.host}/"` });
    await expect(pull(`${registry.host}/a`, how)).rejects.toThrow(/be fetched without TLS/);
    expect(other.requests).toEqual([]);
  });

  test('name mirrors, which are asked first, and below a path', async () => {
    const [registry, mirror, broken] = [await start(), await start(), await start()];
    registry.image('a', 'latest', LAYERS);
    mirror.image('hub/a', 'latest', LAYERS);
    broken.answer = (_, response) => send(response, 404);
    const rules = {
      ...plain(mirror, broken),
      [registry.host]: { plainHttp: true, mirrors: [broken.host, `${mirror.host}/hub`] },
    };
    const notes: string[] = [];
    await pull(`${registry.host}/a`, settings(rules), newStore(), {
      onEvent: (event) => event.kind === 'note' && notes.push(event.text),
    });
    expect(registry.requests).toEqual([]);
    expect(mirror.paths[0]).toBe('hub/a/manifests/latest');
    expect(notes).toEqual([expect.stringMatching(`no such image; trying ${mirror.host}`)]);
    mirror.answer = broken.answer;
    await pull(`${registry.host}/a`, settings(rules));
    expect(registry.requests.length).toBeGreaterThan(0);
  });

  test.each([
    ['{', /is not JSON/],
    ['[]', /expected/i],
    ['{"registry": {}}', /registry/],
    ['{"registries": {"a/b": {}}}', /a\/b is not a host/],
    ['{"registries": {"a": {"plainHTTP": true}}}', /registries.a .*plainHTTP/],
    ['{"registries": {"a": {"mirrors": ["https://b"]}}}', /mirrors.0 is not HOST/],
    ['{"unqualified": "Docker.io"}', /unqualified is not HOST/],
    ['{"unqualified": "myregistry/lib"}', /unqualified does not begin with a registry/],
  ])('%s are refused with the file’s name', async (text, words) => {
    const rules = join(newFolder(), 'registries.json');
    writeFileSync(rules, text);
    const how = { rules, credentials: [], proxy: {}, certificates: [] };
    const error = await Registries.open(how).catch((e) => e);
    expect(error.code).toBe('TSVM_FILE');
    expect(error.message).toMatch(words);
    expect(error.message).toContain(rules);
  });
});

test('a folder is no file of rules', async () => {
  const rules = join(newFolder(), 'registries.json');
  mkdirSync(rules);
  await expect(
    Registries.open({ rules, credentials: [], proxy: {}, certificates: [] }),
  ).rejects.toMatchObject({
    code: 'TSVM_FILE',
  });
});
