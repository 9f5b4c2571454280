/**
 * The agent in a container (docs/agent.md): a process beside the command, or in its place, whose program is in no image.
 *
 * The program is a copy in memory, sealed, and executed by its descriptor: it is no way to a file of the host's, and nothing is put into the
 * root. It listens on a socket that the launcher makes in the host's network namespace. Whoever takes that in the container may answer
 * for the agent, which the host believes nothing, and comes by it to nothing of the host's.
 */
import { release } from 'node:os';
import { type ContainerConfig, environmentOf } from '../config.js';
import { AF_UNIX, AT_EMPTY_PATH, ERRNO, F, MFD, PR, SEALS, SIGKILL, SOCK, SYS } from '../linux.js';
import { cStrings, Data, type Slot, type Step } from '../plan.js';
import { become, filterOf } from '../process.js';
import { call, close, type Slots } from '../steps.js';

/** What the agent of a container is made of. */
export interface AgentParts {
  /** The program, which needs no library. */
  readonly program: Uint8Array;
  /** Path of the host's for its socket. */
  readonly socketPath: string;
  /** Folder of its own that the socket is in. */
  readonly socketFolder: string;
}

/** Steps of a plan for the agent, by who runs them. */
export interface AgentSteps {
  readonly host: readonly Step[];
  readonly launcher: readonly Step[];
  readonly keeper: readonly Step[];
  /** Of the process that becomes it. */
  readonly agent: readonly Step[];
  readonly cleanup: readonly Step[];
}

/** Where the agent finds its socket. */
const LISTENER_FD = 3;
const SOCKET_MODE = 0o600;
const BACKLOG = 128;
/** Since Linux 6.3 a copy in memory has to say whether it is executed; those before know no such word. */
const FIRST_KERNEL_THAT_ASKS = [6, 3] as const;
const LISTEN = 'make the socket of the agent';
const START = 'start the agent';

/** @param held - capabilities of this process */
export function composeAgent(
  config: ContainerConfig,
  { program, socketPath, socketFolder }: AgentParts,
  held: bigint,
  slots: Slots,
): AgentSteps {
  const listener = slots.take();
  const copy = slots.take();
  const address = unixAddress(socketPath);
  return {
    host: [
      call(LISTEN, SYS.socket, [AF_UNIX, SOCK.STREAM | SOCK.CLOEXEC, 0], { into: listener }),
      call(LISTEN, SYS.bind, [listener, new Data(address), address.length]),
      call(LISTEN, SYS.chmod, [socketPath, SOCKET_MODE]),
      call(LISTEN, SYS.listen, [listener, BACKLOG]),
    ],
    // Nobody shall seem to answer when the agent has ended.
    launcher: [close(listener)],
    keeper: [close(listener)],
    agent: [
      call(START, SYS.dup2, [listener, LISTENER_FD]),
      // It is the container's superuser, whoever the command is.
      ...become({ ...config, user: { uid: 0, gid: 0 } }, held),
      // Nothing else ends it with process 1 in the PID namespace of the host.
      call(START, SYS.prctl, [PR.SET_PDEATHSIG, SIGKILL, 0, 0, 0]),
      ...copyProgram(program, copy),
      ...filterOf(config, held),
      call(START, SYS.execveat, [
        copy,
        '',
        cStrings(['agent']),
        cStrings(Object.entries(environmentOf(config)).map(([key, value]) => `${key}=${value}`)),
        AT_EMPTY_PATH,
      ]),
    ],
    cleanup: [
      call(`remove ${socketPath}`, SYS.unlink, [socketPath], { ignore: [ERRNO.ENOENT] }),
      call(`remove ${socketFolder}`, SYS.rmdir, [socketFolder], { ignore: [ERRNO.ENOENT, ERRNO.ENOTEMPTY] }),
    ],
  };
}

function copyProgram(program: Uint8Array, copy: Slot): Step[] {
  const flags = MFD.CLOEXEC | MFD.ALLOW_SEALING | (asksForExecution() ? MFD.EXEC : 0);
  return [
    call(START, SYS.memfd_create, ['agent', flags], { into: copy }),
    call(START, SYS.write, [copy, new Data(program), program.length]),
    call(START, SYS.fcntl, [copy, F.ADD_SEALS, SEALS]),
  ];
}

function asksForExecution(): boolean {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const [first, second] = FIRST_KERNEL_THAT_ASKS;
  return major > first || (major === first && minor >= second);
}

/** struct sockaddr_un */
function unixAddress(path: string): Uint8Array {
  const bytes = new Uint8Array(2 + Buffer.byteLength(path) + 1);
  new DataView(bytes.buffer).setUint16(0, AF_UNIX, true);
  bytes.set(Buffer.from(path), 2);
  return bytes;
}
