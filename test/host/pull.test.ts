/** `tsvm pull` as it is built: from Debian's docker-registry, filled by skopeo; by two processes at once, killed, and with no space left. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { digestOf } from '../../src/image/digest.js';
import { type CliOptions, type CliResult, run, TSVM, tsvm } from '../support/cli.js';
import { freePort } from '../support/free-port.js';
import { temporaryDirectory } from '../support/guest.js';
import { LyingRegistry } from '../support/lying-registry.js';
import { makeOciLayout } from '../support/oci-layout.js';
import { missingProgram, notRoot } from '../support/skip-reasons.js';

const folder = temporaryDirectory();
const newFolder = (): string => mkdtempSync(join(folder, 'x-'));

/** Environment of a user with a store of images, for whom a registry is without TLS. */
function userOf(host: string): { env: Record<string, string>; blobs: string } {
  const home = newFolder();
  mkdirSync(join(home, 'tsvm'));
  const rules = { registries: { [host]: { plainHttp: true } } };
  writeFileSync(join(home, 'tsvm/registries.json'), JSON.stringify(rules));
  const env = {
    ...{ XDG_CONFIG_HOME: home, XDG_RUNTIME_DIR: home, DOCKER_CONFIG: home, REGISTRY_AUTH_FILE: '' },
    TSVM_IMAGE_DIR: join(home, 'images'),
  };
  return { env, blobs: join(home, 'images/blobs/sha256') };
}
const kept = (blobs: string): string[] => readdirSync(blobs).filter((name) => !name.startsWith('.'));
const partsIn = (blobs: string): string[] => readdirSync(blobs).filter((name) => name.endsWith('.partial'));
const pull = (name: string, options: CliOptions, ...more: string[]): Promise<CliResult> =>
  tsvm(['pull', ...more, name], options);

describe('from docker-registry', () => {
  let server: ChildProcess | undefined;
  afterEach(() => void server?.kill('SIGKILL'));

  async function start(): Promise<string> {
    const host = `127.0.0.1:${await freePort()}`;
    const config = join(newFolder(), 'config.yml');
    writeFileSync(
      config,
      `version: 0.1
storage: {filesystem: {rootdirectory: ${newFolder()}}}
http: {addr: "${host}"}
`,
    );
    server = spawn('docker-registry', ['serve', config], { stdio: 'ignore' });
    const answers = () =>
      fetch(`http://${host}/v2/`).then(
        ({ ok }) => ok,
        () => false,
      );
    await expect.poll(answers, { timeout: 30_000, interval: 20 }).toBe(true);
    return host;
  }
  const skopeo = async (...args: string[]): Promise<string> => {
    const { status, stdout, stderr } = await run('skopeo', ['--insecure-policy', ...args]);
    expect([status, stderr]).toEqual([0, expect.anything()]);
    return stdout.toString().trim();
  };

  test('images are as skopeo pushed them, of OCI and of Docker', async ({ skip }) => {
    const reason = missingProgram('docker-registry') ?? missingProgram('skopeo');
    if (reason !== undefined) skip(reason);
    const host = await start();
    const layout = makeOciLayout(newFolder(), [{ 'a/low': 'low' }, { 'a/high': 'high' }]);
    for (const format of ['oci', 'v2s2']) {
      const to = `docker://${host}/some/image:${format}`;
      await skopeo('copy', '--dest-tls-verify=false', '--format', format, `oci:${layout}:latest`, to);
    }
    for (const format of ['oci', 'v2s2']) {
      const { env, blobs } = userOf(host);
      const digest = await skopeo(
        'inspect',
        '--tls-verify=false',
        '--format',
        '{{.Digest}}',
        `docker://${host}/some/image:${format}`,
      );
      const first = await pull(`${host}/some/image:${format}`, { env }, '--quiet');
      expect([first.stderr, first.stdout.toString(), first.status]).toEqual(['', `${digest}\n`, 0]);
      expect(kept(blobs)).toHaveLength(4);
      for (const name of kept(blobs))
        expect(digestOf(readFileSync(join(blobs, name)))).toBe(`sha256:${name}`);
      const again = await pull(`${host}/some/image@${digest}`, { env }, '--json');
      expect(JSON.parse(again.stdout.toString())).toMatchObject({ digest, manifest: digest });
      expect(again.stderr).toMatch(/2 layers, .*\n(.*: is there, .*\n){2}$/);
    }
    const none = await pull(`${host}/some/image:none`, userOf(host));
    expect(none.stderr).toBe(
      `tsvm: ${host}/some/image:none: the registry has no such image\nhint: check name and tag\n`,
    );
  });
});

describe('a pull', () => {
  const LAYERS = [randomBytes(1_500_000), randomBytes(2000)];
  const isBlob = (url = ''): boolean => url.includes('/blobs/');

  test('of the same image by two processes fetches each blob once', async () => {
    await using registry = await LyingRegistry.start();
    const { digest } = registry.image('a', 'latest', LAYERS);
    const { env, blobs } = userOf(registry.host);
    const both = await Promise.all([1, 2].map(() => pull(`${registry.host}/a`, { env })));
    for (const { status, stdout } of both)
      expect([status, stdout.toString()]).toEqual([0, `${registry.host}/a:latest@${digest}\n`]);
    expect(registry.paths.filter(isBlob)).toHaveLength(3);
    expect(kept(blobs)).toHaveLength(4);
    expect(partsIn(blobs)).toEqual([]);
  });

  test.each(['SIGKILL', 'SIGINT'] as const)(
    'that is ended by %s leaves no image, and the next goes on',
    async (signal) => {
      await using registry = await LyingRegistry.start();
      const { digest } = registry.image('a', 'latest', LAYERS);
      const { env, blobs } = userOf(registry.host);
      const serve = registry.answer;
      let child: ChildProcess | undefined;
      registry.answer = ({ url = '' }, response) => {
        const blob = registry.blobAt(url);
        if (blob === undefined || blob.length < 1_000_000) return false;
        response.writeHead(200, { 'Content-Length': blob.length });
        response.write(blob.subarray(0, 500_000));
        return true;
      };
      const ending = pull(`${registry.host}/a`, {
        env,
        onStart: (process) => {
          child = process;
        },
      });
      const written = (): boolean => {
        try {
          return partsIn(blobs).some((name) => readFileSync(join(blobs, name)).length === 500_000);
        } catch {
          return false; // it is not there yet
        }
      };
      await expect.poll(written, { timeout: 50_000, interval: 20 }).toBe(true);
      child?.kill(signal);
      const ended = await ending;
      if (signal === 'SIGINT')
        expect([ended.status, ended.stderr]).toEqual([
          130,
          expect.stringMatching(/goes on with what came\n$/),
        ]);
      expect(kept(blobs)).not.toContain(digest.slice('sha256:'.length));
      registry.answer = serve;
      const asked = registry.requests.length;
      expect((await pull(`${registry.host}/a`, { env })).status).toBe(0);
      const ranges = registry.requests.slice(asked).flatMap(({ headers }) => headers.range ?? []);
      expect(ranges).toEqual(['bytes=500000-']);
      expect(kept(blobs)).toHaveLength(4);
      expect(partsIn(blobs)).toEqual([]);
    },
  );

  test('for which there is no space, at first or in the middle, says so and leaves none of it', async ({
    skip,
  }) => {
    const reason = notRoot();
    if (reason !== undefined) skip(reason);
    await using registry = await LyingRegistry.start();
    registry.image('big', 'latest', [randomBytes(4_000_000)]);
    registry.image('a', 'latest', LAYERS);
    const { env } = userOf(registry.host);
    const images = env['TSVM_IMAGE_DIR'] as string;
    mkdirSync(images);
    const script = `mount -t tmpfs -o size=2m,mode=700 images "$1" || exit 99
      images=$1; shift; "$@"; status=$?; find "$images" -name '*.partial'; exit $status`;
    let child: ChildProcess | undefined;
    const pullThere = (name: string): Promise<CliResult> =>
      run('unshare', ['--mount', 'sh', '-c', script, 'sh', images, process.execPath, TSVM, 'pull', name], {
        env,
        onStart: (started) => {
          child = started;
        },
      });
    const big = await pullThere(`${registry.host}/big`);
    expect([big.status, big.stderr]).toEqual([
      2,
      expect.stringMatching(/3.8\d MiB are needed there, and .* free\nhint: make space/),
    ]);
    registry.answer = ({ url }) => {
      // Others fill the disk meanwhile, before the layer comes.
      const there = `/proc/${child?.pid}/root${images}`;
      if (isBlob(url) && readdirSync(there).includes('blobs') && !readdirSync(there).includes('other'))
        writeFileSync(join(there, 'other'), Buffer.alloc(1_000_000));
      return false;
    };
    const middle = await pullThere(`${registry.host}/a`);
    expect([middle.status, middle.stderr]).toEqual([
      2,
      expect.stringMatching(
        /cannot keep sha256:\w+ in .*: no space left on the device\nhint: make space there.*\n$/,
      ),
    ]);
    const [, hex = ''] = /sha256:(\w+)/.exec(middle.stderr) ?? [];
    expect(middle.stdout.toString()).not.toContain(hex);
  });
});
