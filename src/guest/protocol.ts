/**
 * Protocol between the host and guests/init: the numbers that both sides know. guests/init/protocol.h has the same, and a test compares
 * them; guests/README.md ("What init promises") says what they mean.
 */

/**
 * Version of the channel's protocol, which the machine offers. It changes when a message of the one side would be misread by the other.
 * init refuses a version that is not its own, and a machine that was saved with another one is not restored. All else (marks, exit status,
 * stop port, /.tsvm/command) is the same in every version: it is only added to, and what init does not know it names and skips.
 */
export const PROTOCOL_VERSION = 1;

/** Marks by which init says how far it has come; a guest may use the others as it likes. */
export const MARK = { INIT: 1, COMMAND: 2, READY: 3, DONE: 4, ROOT_FULL: 5, AGENT: 6 } as const;

/** Name of a mark, as `machine.on('mark')` and timelines have it. */
export function markName(code: number): string {
  switch (code) {
    case MARK.INIT:
      return 'init';
    case MARK.COMMAND:
      return 'command';
    case MARK.READY:
      return 'ready';
    case MARK.DONE:
      return 'done';
    case MARK.ROOT_FULL:
      return 'root-full';
    case MARK.AGENT:
      return 'agent';
    default:
      return `mark-${code}`;
  }
}

/** Offer of the machine, which init reads: its channel ("C"), its stop port ("S"), or neither. Ports that are not there read 0xff. */
export const OFFER = { NOTHING: 0, CHANNEL: 0x43, STOP_PORT: 0x53 } as const;

/** Wish of the machine for the agent ("A"), which init reads at a port of its own: an older init knows what it always knew. */
export const OFFER_AGENT = 0x41;

/** Port of the guest's vsock at which the agent listens; guests/agent/protocol.h. */
export const AGENT_PORT = 0x7473766d;

/** Option of a message that asks init to have the agent run. A message with it brings no command. Init answers with the mark `agent`. */
export const AGENT_OPTION = 'agent=1';

/** Ports 1 to 4 of the machine's first virtio-console; init knows them by these numbers. */
export const CHANNEL_PORTS = ['tsvm.control', 'tsvm.stdin', 'tsvm.stdout', 'tsvm.stderr'] as const;

/** Port 1 of the machine's first virtio-console, of a machine without a channel. */
export const STOP_PORTS = ['tsvm.stop'] as const;

/** Limit of one message: as much as init has room for. */
export const MAX_MESSAGE_BYTES: number = 256 * 1024;

/** Limit of the entropy in one message, as init takes it; the kernel would take more (include/uapi/linux/random.h). */
export const MAX_ENTROPY_BYTES = 64;
