/** The last steps of the command's process: who it is, what it may do, and the program. */
import { CAPABILITIES, type Capability, capabilityBits, DEFAULT_CAPABILITIES } from './capabilities.js';
import { type ContainerConfig, environmentOf, userOf } from './config.js';
import { ERRNO, PR, SYS } from './linux.js';
import { cStrings, Data, type Slot, type Step } from './plan.js';
import { filterProgram, type Instruction, seccompFilter } from './seccomp.js';
import { call, close, PATH, pathIn, type Slots } from './steps.js';

/** <linux/capability.h>: 64 bits in two words of each set. */
const LINUX_CAPABILITY_VERSION_3 = 0x2008_0522;
/** <linux/seccomp.h> */
const SECCOMP_SET_MODE_FILTER = 1;

/** What the command of `config` has of them: in a user namespace of the host's, no more than this process. */
export function capabilitiesOf(config: ContainerConfig, held: bigint): readonly Capability[] {
  const asked = config.capabilities ?? (config.privileged === true ? CAPABILITIES : DEFAULT_CAPABILITIES);
  if (config.share?.includes('user') !== true) return asked;
  return asked.filter((name) => (held & capabilityBits([name])) !== 0n);
}

/** @param root - the container's root */
export function composeProcess(config: ContainerConfig, held: bigint, root: Slot, slots: Slots): Step[] {
  return [
    ...become(config, held),
    ...enterDirectory(config.cwd ?? '/', root, slots.take()),
    ...filterOf(config, held),
    ...execute(config),
  ];
}

/** Becomes the command's user, with what it has of capabilities. */
export function become(config: ContainerConfig, held: bigint): Step[] {
  const capabilities = capabilitiesOf(config, held);
  const { uid, gid, groups } = userOf(config);
  return [
    ...dropFromBoundingSet(capabilities),
    setGroups(gid, groups),
    call(`become group ${gid}`, SYS.setresgid, [gid, gid, gid]),
    ...(uid === 0 ? [] : giveStreams(uid)),
    call(`become user ${uid}`, SYS.setresuid, [uid, uid, uid]),
    clearAmbient(),
    // Another user has lost them with the change.
    ...(uid === 0 ? [keepCapabilities(capabilities)] : []),
  ];
}

/** Filter of system calls, where there is one. */
export function filterOf(config: ContainerConfig, held: bigint): Step[] {
  if (config.privileged === true) return [];
  return installFilter(seccompFilter(capabilitiesOf(config, held)));
}

/** Leaves every group but those of the command's user. A user namespace of one id cannot say so; there is none to be dropped then. */
function setGroups(gid: number, groups: readonly number[]): Step {
  const all = groups.length === 0 ? [] : [gid, ...groups];
  const purpose =
    all.length === 0 ? 'leave all groups' : `become a member of the groups ${groups.join(', ')}`;
  const list = all.length === 0 ? 0 : new Data(new Uint8Array(Uint32Array.from(all).buffer));
  return call(purpose, SYS.setgroups, [all.length, list], { ignore: [ERRNO.EPERM] });
}

/**
 * Makes pipes and the terminal that are the command's streams its user's, as runc does: it opens them again by /dev/stdout. The host's own
 * terminals, FIFOs and devices are on read-only mounts, and stay whose they are.
 */
function giveStreams(uid: number): Step[] {
  return [0, 1, 2].map((fd) =>
    call(`become user ${uid}`, SYS.fchown, [fd, uid, -1], { ignore: [ERRNO.EROFS, ERRNO.EPERM] }),
  );
}

/** Enters the working directory as the user who is to be there. */
function enterDirectory(cwd: string, root: Slot, directory: Slot): Step[] {
  const purpose = `${WORKING_DIRECTORY} ${cwd}`;
  return [
    pathIn(purpose, root, cwd, PATH.DIRECTORY, { into: directory }),
    call(purpose, SYS.fchdir, [directory]),
    close(directory),
  ];
}

export function dropFromBoundingSet(kept: readonly Capability[]): Step[] {
  return [...CAPABILITIES.entries()]
    .filter(([, name]) => !kept.includes(name))
    .map(([number, name]) =>
      // A kernel that does not know one cannot give it.
      call(`drop ${name}`, SYS.prctl, [PR.CAPBSET_DROP, number, 0, 0, 0], { ignore: [ERRNO.EINVAL] }),
    );
}

/** Clears the ambient capabilities, which an execve would keep. */
export function clearAmbient(): Step {
  const args = [PR.CAP_AMBIENT, PR.CAP_AMBIENT_CLEAR_ALL, 0, 0, 0];
  return call('clear the ambient capabilities', SYS.prctl, args);
}

/** @param inherited - an execve keeps them, too, where they are made ambient */
export function keepCapabilities(capabilities: readonly Capability[], inherited = false): Step {
  const head = new Uint8Array(8);
  new DataView(head.buffer).setUint32(0, LINUX_CAPABILITY_VERSION_3, true);
  const sets = new Uint8Array(24);
  const view = new DataView(sets.buffer);
  const bits = capabilityBits(capabilities);
  for (const word of [0, 1]) {
    const half = Number((bits >> BigInt(32 * word)) & 0xffff_ffffn);
    view.setUint32(word * 12, half, true); // effective
    view.setUint32(word * 12 + 4, half, true); // permitted
    view.setUint32(word * 12 + 8, inherited ? half : 0, true);
  }
  return call('set the capabilities', SYS.capset, [new Data(head), new Data(sets)]);
}

/** @param program - of seccomp(2) */
export function installFilter(program: readonly Instruction[]): Step[] {
  return [
    call('give up new privileges', SYS.prctl, [PR.SET_NO_NEW_PRIVS, 1, 0, 0, 0]),
    call('install the filter', SYS.seccomp, [SECCOMP_SET_MODE_FILTER, 0, filterProgram(program)]),
  ];
}

/**
 * Executes the command along PATH, as execvp does; the last step's error is the command's. Its path is resolved by the kernel, as the
 * command's own paths are from here on: in the container's root, with the command's user, capabilities and filter.
 */
function execute(config: ContainerConfig): Step[] {
  const name = config.argv[0] ?? '';
  const env = environmentOf(config);
  const argv = cStrings(config.argv);
  const envp = cStrings(Object.entries(env).map(([key, value]) => `${key}=${value}`));
  const folders = name.includes('/')
    ? ['']
    : (env['PATH'] ?? '/usr/bin:/bin').split(':').map((at) => `${at || '.'}/`);
  return folders.map((folder, i) =>
    call(EXECUTE, SYS.execve, [`${folder}${name}`, argv, envp], {
      ignore: i === folders.length - 1 ? [] : [ERRNO.ENOENT, ERRNO.ENOTDIR],
    }),
  );
}

/** Purpose of the steps that enter the working directory. */
export const WORKING_DIRECTORY = 'enter the working directory';
/** Purpose of the step that makes an image's if it is missing. */
export const MAKE_WORKING_DIRECTORY = 'make the working directory';
/** What the steps are for that execute the command: their failure is its status. */
export const EXECUTE = 'execute the command';
