/** Files, by the agent's program itself. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openConnection } from '../../src/agent/connection.js';
import type { AgentFileEntry } from '../../src/agent/entries.js';
import { agentFiles } from '../../src/agent/files.js';
import type { AgentFileEvent } from '../../src/agent/watch.js';
import { type AgentClient, agentClient } from '../support/agent-client.js';
import { startAgent } from '../support/agent-program.js';

const MIB = 1 << 20;
const GIB = 1 << 30;
/** Name with a newline and a byte that no UTF-8 has. */
const ODD = Buffer.from([0x61, 0x0a, 0xff, 0x62]);

describe('files of an agent', () => {
  let agent: AgentClient;
  const at = (name: string): string => join(agent.folder, name);
  const oddAt = (name: string): Buffer => Buffer.concat([Buffer.from(at(name)), ODD]);

  beforeAll(async () => {
    agent = await agentClient();
  });
  afterAll(async () => {
    await agent?.[Symbol.asyncDispose]();
  });

  test('bytes stay as they are, whatever the name', async () => {
    const bytes = randomBytes(3 * MIB + 17);
    expect(await agent.files.write(oddAt('x'), bytes, { mode: 0o640 })).toEqual({ size: bytes.length });
    expect(readFileSync(oddAt('x')).equals(bytes)).toBe(true);
    expect(statSync(oddAt('x')).mode & 0o7777).toBe(0o640);
    expect((await agent.files.read(oddAt('x'))).equals(bytes)).toBe(true);
    expect(
      (await agent.files.read(oddAt('x'), { offset: 5, length: 70_000 })).equals(bytes.subarray(5, 70_005)),
    ).toBe(true);
    await agent.files.write(at('empty'), '');
    expect((await agent.files.read(at('empty'))).length).toBe(0);
    expect((await agent.files.read('/proc/self/status')).toString()).toContain('Name:\tagent');
    expect((await agent.files.read('/dev/zero', { length: 100_000 })).equals(Buffer.alloc(100_000))).toBe(
      true,
    );
  });

  test('append, offset and exclusive', async () => {
    await agent.files.write(at('a'), 'one');
    await agent.files.write(at('a'), 'two', { append: true });
    await agent.files.write(at('a'), 'X', { offset: 1 });
    expect(readFileSync(at('a'), 'utf8')).toBe('oXetwo');
    await expect(agent.files.write(at('a'), 'no', { exclusive: true })).rejects.toThrow(
      `cannot write ${at('a')}: it is there already`,
    );
    await agent.files.truncate(at('a'), 2);
    expect(readFileSync(at('a'), 'utf8')).toBe('oX');
  });

  test('errors name the path', async () => {
    await expect(agent.files.read(at('no'))).rejects.toMatchObject({
      code: 'TSVM_FILE',
      message: `cannot read ${at('no')}: no such file or directory`,
    });
    await expect(agent.files.read(agent.folder)).rejects.toThrow('it is a directory');
    await expect(agent.files.write(agent.folder, 'x')).rejects.toThrow('it is a directory');
    await expect(buffer(agent.files.createReadStream(at('no')))).rejects.toThrow('no such file');
    await expect(
      pipeline(Readable.from([Buffer.alloc(10)]), agent.files.createWriteStream(at('no/x'))),
    ).rejects.toThrow('no such file');
    symlinkSync('loop', at('loop'));
    await expect(agent.files.read(at('loop'))).rejects.toThrow('too many symbolic links');
    await expect(agent.files.read('/dev/null\0')).rejects.toThrow('NUL');
  });

  test('a file system that is full is told', async (context) => {
    if (process.geteuid?.() !== 0) return context.skip('mounting a file system is for the superuser');
    mkdirSync(at('small'));
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', at('small')], { stdio: 'pipe' });
    } catch {
      return context.skip('no file system can be mounted here');
    }
    try {
      await expect(agent.files.write(at('small/x'), Buffer.alloc(8 * MIB, 1))).rejects.toThrow(
        'no space left',
      );
      await expect(
        pipeline(Readable.from(pieces(8)), agent.files.createWriteStream(at('small/y'))),
      ).rejects.toThrow('no space left');
      await expect(
        agent.files.write(at('small/z'), Buffer.alloc(8 * MIB, 1), { atomic: true }),
      ).rejects.toThrow('no space');
      expect(readdirSync(at('small')).sort()).toEqual(['x', 'y']);
    } finally {
      execFileSync('umount', [at('small')]);
    }
  });

  test('facts, links, modes, owners and times', async () => {
    const { files } = agent;
    await files.mkdir(at('d/e/f'), { parents: true, mode: 0o750 });
    await files.mkdir(at('d/e/f'), { parents: true });
    await expect(files.mkdir(at('d'))).rejects.toThrow('it is there already');
    await files.write(at('d/x'), 'hello');
    await files.symlink('../no\nwhere', at('d/l'));
    await files.link(at('d/x'), at('d/y'));
    await files.chmod(at('d/x'), 0o4711);
    await files.utimes(at('d/x'), { seconds: -5, nanoseconds: 7 });
    await files.utimes(at('d/l'), new Date(1_234_567), { follow: false });
    expect(await files.stat(at('d/x'))).toMatchObject({
      kind: 'file',
      mode: 0o4711,
      size: 5,
      links: 2,
      mtime: { seconds: -5, nanoseconds: 7 },
    });
    const link = await files.stat(at('d/l'), { follow: false });
    expect(link).toMatchObject({ kind: 'link', mtime: { seconds: 1234, nanoseconds: 567_000_000 } });
    expect(link.target?.toString()).toBe('../no\nwhere');
    await expect(files.stat(at('d/l'))).rejects.toThrow('no such file');
    await files.rename(at('d/y'), at('d/z'));
    const entries: AgentFileEntry[] = [];
    for await (const entry of files.list(at('d'), { depth: 2 })) entries.push(entry);
    expect(entries.map(({ path, kind }) => `${kind} ${path}`).sort()).toEqual([
      'directory e',
      'directory e/f',
      'file x',
      'file z',
      'link l',
    ]);
    expect(await files.statfs(at('d'))).toMatchObject({ blockBytes: 4096 });
    await files.mknod(at('d/p'), 0o010644);
    expect(lstatSync(at('d/p')).isFIFO()).toBe(true);
    await expect(files.remove(at('d'))).rejects.toThrow('the directory is not empty');
    await files.remove(at('d'), { recursive: true });
    expect(existsSync(at('d'))).toBe(false);
    await expect(files.remove(at('d'))).rejects.toThrow('no such file');
    await files.remove(at('d'), { force: true });
  });

  test('holes are kept both ways', async () => {
    const fd = openSync(at('sparse'), 'w');
    ftruncateSync(fd, 4 * GIB);
    writeSync(fd, 'middle', 2 * GIB);
    writeSync(fd, 'begin', 0);
    closeSync(fd);
    await agent.files.write(at('copy'), agent.files.readPieces(at('sparse')));
    expect(statSync(at('copy')).size).toBe(4 * GIB);
    expect(statSync(at('copy')).blocks * 512).toBeLessThan(MIB);
    expect((await agent.files.read(at('copy'), { offset: 2 * GIB - 2, length: 10 })).toString()).toBe(
      '\0\0middle\0\0',
    );
    let size = 0;
    for await (const piece of agent.files.createReadStream(at('copy'), { offset: 3 * GIB }))
      size += piece.length;
    expect(size).toBe(GIB);
  }, 60_000);

  test('1 GiB goes both ways', async () => {
    await agent.files.write(at('large'), pieces(1024));
    let size = 0;
    for await (const piece of agent.files.createReadStream(at('large'))) size += piece.length;
    expect(size).toBe(GIB);
    await agent.files.remove(at('large'));
  }, 120_000);

  test('an atomic write is whole or not there, whatever ends when', async () => {
    writeFileSync(at('whole'), 'old');
    chmodSync(at('whole'), 0o600);
    await agent.files.write(at('whole'), 'new', { atomic: true });
    expect(readFileSync(at('whole'), 'utf8')).toBe('new');
    expect(statSync(at('whole')).mode & 0o777).toBe(0o600);
    mkdirSync(at('killed'));
    writeFileSync(at('killed/x'), 'old');
    const program = await startAgent();
    const connection = await openConnection(() => program.dial());
    const files = agentFiles(async (ask) => connection.open(ask));
    const written = files.write(at('killed/x'), endless(), { atomic: true });
    written.catch(() => {});
    await until(() => readdirSync(at('killed')).length === 2);
    process.kill(program.pid, 'SIGKILL');
    await expect(written).rejects.toMatchObject({ code: 'TSVM_AGENT' });
    await program[Symbol.asyncDispose]();
    expect(readFileSync(at('killed/x'), 'utf8')).toBe('old');
    const stopped = new AbortController();
    const aborted = agent.files.write(at('whole'), endless(), { atomic: true, signal: stopped.signal });
    setTimeout(() => stopped.abort(), 50);
    await expect(aborted).rejects.toThrow();
    await until(() => readdirSync(agent.folder).every((name) => !name.startsWith('.tsvm')));
    expect(readFileSync(at('whole'), 'utf8')).toBe('new');
  });

  test('1,000 small files go in a moment, both ways', async () => {
    mkdirSync(at('many'));
    for (let i = 0; i < 1000; i++) writeFileSync(at(`many/${i}`), randomBytes(4096));
    const begun = Date.now();
    const archive = await buffer(agent.files.readTar(at('many')));
    await agent.files.writeTar(at('many2'), Readable.from([archive]));
    expect(Date.now() - begun).toBeLessThan(5000);
    execFileSync('diff', ['-r', at('many'), at('many2')]);
  }, 30_000);

  test('an archive has all that tar has', async () => {
    const { files } = agent;
    const long = 'n'.repeat(200);
    mkdirSync(at(`t/${long}`), { recursive: true });
    writeFileSync(at(`t/${long}/${long}`), 'deep');
    writeFileSync(oddAt('t/'), 'odd');
    await files.link(oddAt('t/'), at('t/hard'));
    symlinkSync('hard', at('t/soft'));
    await files.mknod(at('t/pipe'), 0o010600);
    await files.utimes(at('t/hard'), { seconds: 1_000_000_000, nanoseconds: 123_456_789 });
    await files.write(at('t/large'), randomBytes(MIB), { mode: 0o4755 });
    await files.chmod(at('t'), 0o1770);
    await files.utimes(at('t'), { seconds: 1_000_000_001, nanoseconds: 0 });
    const archive = await buffer(files.readTar(at('t')));
    mkdirSync(at('by-tar'));
    execFileSync('tar', ['-C', at('by-tar'), '-xpf', '-'], { input: archive, stdio: 'pipe' });
    await files.writeTar(at('by-agent'), Readable.from([archive]));
    for (const folder of ['by-tar', 'by-agent']) {
      execFileSync('diff', ['-r', '--no-dereference', at(`t/${long}`), at(`${folder}/${long}`)]);
      expect(readFileSync(oddAt(`${folder}/`), 'utf8')).toBe('odd');
      expect(statSync(oddAt(`${folder}/`)).ino).toBe(statSync(at(`${folder}/hard`)).ino);
      expect(readlinkSync(at(`${folder}/soft`))).toBe('hard');
      expect(lstatSync(at(`${folder}/pipe`)).isFIFO()).toBe(true);
      expect(statSync(at(`${folder}/large`)).mode & 0o7777).toBe(0o4755);
      expect(statSync(at(`${folder}/hard`), { bigint: true }).mtimeNs).toBe(1_000_000_000_123_456_789n);
      expect(statSync(at(folder)).mode & 0o7777).toBe(0o1770);
      expect(statSync(at(folder)).mtimeMs).toBe(1_000_000_001_000);
    }
  });

  test('no archive leads out of its folder', async () => {
    const { files } = agent;
    const tar = (...args: string[]): Buffer =>
      execFileSync('tar', ['-C', at('evil'), '-P', '-cf', '-', ...args]);
    mkdirSync(at('evil'));
    mkdirSync(at('victim'));
    writeFileSync(at('evil/x'), 'x');
    const up = tar('--transform=s,^x,../victim/x,', 'x');
    await expect(files.writeTar(at('out'), Readable.from([up]))).rejects.toThrow(
      'it leads out of the folder',
    );
    symlinkSync(at('victim'), at('evil/l'));
    const through = tar('--transform=s,^x,l/x,', 'l', 'x');
    await expect(files.writeTar(at('out'), Readable.from([through]))).rejects.toThrow(
      'symbolic link of the archive',
    );
    expect(readdirSync(at('victim'))).toEqual([]);
    await expect(files.writeTar(at('out'), Readable.from([Buffer.alloc(1024, 7)]))).rejects.toThrow();
  });

  test('a tree of 10,000 levels is listed and removed', async () => {
    mkdirSync(at('deep'));
    execFileSync('python3', [
      '-c',
      `import os\nos.chdir(${JSON.stringify(at('deep'))})\nfor i in range(10000):\n os.mkdir('d')\n os.chdir('d')`,
    ]);
    let count = 0;
    for await (const { path } of agent.files.list(at('deep'), { depth: Number.POSITIVE_INFINITY }))
      expect(path.length).toBe(++count * 2 - 1);
    expect(count).toBe(10_000);
    await agent.files.remove(at('deep'), { recursive: true });
    expect(existsSync(at('deep'))).toBe(false);
  }, 60_000);

  test('removing follows no link', async () => {
    mkdirSync(at('kept'));
    writeFileSync(at('kept/x'), 'x');
    mkdirSync(at('r/s'), { recursive: true });
    symlinkSync(at('kept'), at('r/s/l'));
    for (let i = 0; i < 2000; i++) writeFileSync(at(`r/${i}`), '');
    await agent.files.remove(at('r'), { recursive: true });
    expect(existsSync(at('r'))).toBe(false);
    expect(readdirSync(at('kept'))).toEqual(['x']);
  });

  test('changes are told, also in folders that come later', async () => {
    mkdirSync(at('w/old'), { recursive: true });
    const stop = new AbortController();
    const events: string[] = [];
    let begun = (): void => {};
    const watching = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const reader = (async () => {
      for await (const { kind, path } of agent.files.watch(at('w'), {
        recursive: true,
        signal: stop.signal,
      }) as AsyncIterable<AgentFileEvent>) {
        if (kind === 'watching') begun();
        else events.push(`${kind} ${path}`);
      }
    })();
    reader.catch(() => {});
    await watching;
    writeFileSync(at('w/old/x'), 'x');
    mkdirSync(at('w/new/deep'), { recursive: true });
    await until(() => events.includes('made new/deep'));
    writeFileSync(at('w/new/deep/y'), 'y');
    await until(() => events.includes('made new/deep/y'));
    await agent.files.rename(at('w/new'), at('w/newer'));
    await until(() => events.includes('moved-to newer'));
    await agent.files.remove(at('w/newer/deep/y'));
    await until(() => events.includes('removed newer/deep/y'));
    expect(events).toContain('made old/x');
    expect(events).toContain('changed old/x');
    expect(events).toContain('moved-from new');
    stop.abort();
    await expect(reader).rejects.toThrow();
  });

  test('pipes and devices stop nothing', async () => {
    await agent.files.mknod(at('fifo'), 0o010600);
    await expect(agent.files.write(at('fifo'), 'x')).rejects.toThrow('no such device');
    const reader = openSync(at('fifo'), constants.O_RDONLY | constants.O_NONBLOCK);
    const written = agent.files.write(at('fifo'), Buffer.alloc(MIB, 'x'));
    let done = false;
    written.finally(() => {
      done = true;
    });
    await agent.files.stat(at('fifo'));
    expect(done).toBe(false);
    const piece = Buffer.alloc(65_536);
    for (let size = 0; size < MIB; ) {
      try {
        size += readSync(reader, piece);
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }
    expect(await written).toEqual({ size: MIB });
    closeSync(reader);
    expect(await agent.files.write('/dev/null', 'gone')).toEqual({ size: 4 });
  });

  test('nothing is left open', async () => {
    await until(() => agent.program.descriptors() <= 12);
    expect(agent.program.isAlive).toBe(true);
  });
});

function* pieces(mebibytes: number): Generator<Buffer> {
  const piece = Buffer.alloc(MIB, 0x5a);
  for (let i = 0; i < mebibytes; i++) yield piece;
}

function* endless(): Generator<Buffer> {
  for (;;) yield Buffer.alloc(MIB, 1);
}

async function until(holds: () => boolean): Promise<void> {
  for (let i = 0; !holds(); i++) {
    if (i > 500) throw new Error('it does not come');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
