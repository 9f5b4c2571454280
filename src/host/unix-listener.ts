/** Servers at Unix sockets' paths, and connections to them. */
import { createHash, randomUUID } from 'node:crypto';
import { constants, lstatSync, type Stats, unlinkSync } from 'node:fs';
import {
  access,
  chmod,
  type FileHandle,
  link,
  lstat,
  mkdtemp,
  open,
  rm,
  stat,
  unlink,
} from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isErrnoError, TsvmError, type TsvmErrorCode } from '../errors.js';
import { describeFileError, O_PATH } from './files.js';

/** sun_path of Linux has 108 bytes, one for the NUL. */
const MAX_PATH_BYTES = 107;
/** Mode of every socket: only its owner connects, whatever the folder and the process's umask allow. */
const SOCKET_MODE = 0o600;

/** Time that others may take to judge a name: some system calls, on a host that is busy. */
const MAX_TURN_MS = 5000;
const TURN_POLL_MS = 5;

/** Write permission of group and others. */
const OTHERS_WRITE = 0o022;

export interface ListenAt {
  readonly path: string;
  /** Who listens, for messages: `vsock`. */
  readonly what: string;
  readonly code: TsvmErrorCode;
  /** Of what will be added to the path for other sockets. */
  readonly suffixBytes?: number;
}

/** A server and the name that it has in the file system. */
export class UnixListener {
  readonly #server: Server;
  readonly #path: string;
  readonly #inode: bigint;

  /** @param inode - of the socket at `path`, by which it is known from a successor's */
  constructor(server: Server, path: string, inode: bigint) {
    this.#server = server;
    this.#path = path;
    this.#inode = inode;
  }

  /** Resolves when every connection has ended. The name goes at once, unless somebody else has it by now. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => void this.#server.close(() => resolve()));
    try {
      if (lstatSync(this.#path, { bigint: true }).ino === this.#inode) unlinkSync(this.#path);
    } catch {
      // It, or its folder, was taken away.
    }
    await closed;
  }
}

/**
 * Listens at `path`, mode 0600. Takes over a socket that somebody left behind who no longer listens, as after SIGKILL.
 *
 * The socket is made in a fresh folder that nobody else may enter, gets its mode there and only then its name: at no time can
 * others connect, and the umask, which all machines of the process share, is left alone.
 *
 * @throws TsvmError of `code`
 */
export async function listenAt(server: Server, at: ListenAt): Promise<UnixListener> {
  refuseLong(at);
  try {
    await removeStale(at.path);
    return await listenPrivately(server, at.path);
  } catch (cause) {
    throw listenError(at, cause);
  }
}

/** Looks whether {@link listenAt} could listen at a path. Whether somebody listens there is told only by asking. */
export async function lookAtSocketPath(at: ListenAt): Promise<void> {
  refuseLong(at);
  try {
    await access(dirname(at.path), constants.W_OK | constants.X_OK);
    if ((await statOf(at.path))?.isSocket() === false)
      throw Object.assign(new Error('it is no socket'), { errno: 0, code: 'EEXIST' });
  } catch (cause) {
    throw listenError(at, cause);
  }
}

function refuseLong({ path, what, code, suffixBytes = 0 }: ListenAt): void {
  const bytes = Buffer.byteLength(path);
  const most = MAX_PATH_BYTES - suffixBytes;
  if (bytes <= most) return;
  throw new TsvmError(code, `${what} ${path}: ${bytes} bytes are too long for a Unix socket`, {
    hint: `${suffixBytes > 0 ? 'with a port after it, ' : ''}${most} are the most: use a shorter path, such as /tmp/vm.sock`,
  });
}

function listenError({ path, what, code }: ListenAt, cause: unknown): TsvmError {
  const inUse = isErrnoError(cause) && cause.code === 'EEXIST';
  const isMissing = isErrnoError(cause) && cause.code === 'ENOENT';
  const why = inUse
    ? 'another machine or program listens there, or it is no socket'
    : isMissing
      ? 'no such folder'
      : describeFileError(cause);
  return new TsvmError(code, `${what} ${path}: ${why}`, {
    hint: inUse ? 'give this machine a path of its own' : 'give a path in a folder that can be written',
    cause,
  });
}

/** @throws Error EEXIST if there is something at `path` */
async function listenPrivately(server: Server, path: string): Promise<UnixListener> {
  const folder = await mkdtemp(join(dirname(path), '.tsvm-'));
  try {
    // libuv unlinks the name again when the server closes, whatever has the descriptor's number by then: so it is nobody else's name.
    const name = randomUUID();
    const socketPath = join(folder, name);
    const handle = await open(folder);
    try {
      // By the descriptor: the folder's own path may be too long for a socket, where `path` is not.
      await listen(server, `/proc/self/fd/${handle.fd}/${name}`);
    } finally {
      await handle.close();
    }
    try {
      await chmod(socketPath, SOCKET_MODE);
      const { ino } = await lstat(socketPath, { bigint: true });
      await link(socketPath, path); // unlike rename(2), never in the place of something else
      return new UnixListener(server, path, ino);
    } catch (error) {
      server.close();
      throw error;
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Connects a socket to a server at `path`. In a folder that others may write, such as /tmp, the server's name has to be this user's, the
 * superuser's, or the folder's owner's: whoever makes it first is trusted by whoever connects. A refusal ends the socket as a missing
 * server does.
 */
export function connectTo(socket: Socket, path: string): void {
  openName(path).then(
    (name) => {
      if (socket.destroyed) return void name.close();
      const connected = new Promise<void>((resolve) => {
        for (const event of ['connect', 'close']) socket.once(event, () => resolve());
      });
      // By the descriptor: it is what was looked at.
      socket.connect(`/proc/self/fd/${name.fd}`);
      connected.then(() => name.close());
    },
    (error: Error) => void socket.destroy(error),
  );
}

async function openName(path: string): Promise<FileHandle> {
  const folder = await stat(dirname(path));
  const shared = (folder.mode & OTHERS_WRITE) !== 0;
  const name = await open(path, O_PATH | (shared ? constants.O_NOFOLLOW : 0));
  try {
    const { uid } = await name.stat();
    const trusted = [process.geteuid?.() ?? 0, 0, folder.uid];
    if (shared && !trusted.includes(uid)) {
      throw new Error(`${path} is another user's (uid ${uid}), in a folder that others may write`);
    }
    return name;
  } catch (error) {
    await name.close();
    throw error;
  }
}

function statOf(path: string): Promise<Stats | undefined> {
  return lstat(path).catch((error: unknown) => {
    if (isErrnoError(error) && error.code === 'ENOENT') return undefined;
    throw error;
  });
}

/** Removes a socket at `path` that nobody serves. One at a time does, or the second would remove what the first has put there since. */
async function removeStale(path: string): Promise<void> {
  if (!(await isStale(path))) return;
  const turn = await takeTurn(path);
  try {
    if (await isStale(path)) await unlink(path);
  } finally {
    turn?.close();
  }
}

async function isStale(path: string): Promise<boolean> {
  const stat = await statOf(path);
  return stat?.isSocket() === true && !(await answers(path));
}

/**
 * Waits for this process's turn to judge the name `path`: a socket in the abstract namespace, which one at a time can have, and which
 * goes with its process. Others may have that name, too, and keep it: then there is none.
 */
async function takeTurn(path: string): Promise<Server | undefined> {
  const { dev, ino } = await stat(dirname(path), { bigint: true });
  const hash = createHash('sha256')
    .update(`${dev} ${ino} ${basename(path)}`)
    .digest('hex');
  // All that an address has room for, since versions of Node differ in what follows a shorter name.
  const name = `\0tsvm-turn-${hash}`.padEnd(MAX_PATH_BYTES + 1, '-');
  for (const deadline = performance.now() + MAX_TURN_MS; ; await sleep(TURN_POLL_MS)) {
    const turn = createServer((client) => client.destroy());
    try {
      await listen(turn, name);
      return turn.on('error', () => {}); // whom it cannot accept has nothing to say
    } catch (error) {
      if (!isErrnoError(error) || error.code !== 'EADDRINUSE') throw error;
      if (performance.now() > deadline) return undefined;
    }
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error) => resolve(!isErrnoError(error) || error.code !== 'ECONNREFUSED'));
  });
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
