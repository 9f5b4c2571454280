/**
 * Places in src/ that do what test/support/source-rules.ts looks for, each with the reason why it may.
 *
 * A row holds for the functions it names and for nothing else there; one that nothing needs any more fails.
 */
import type { RuleName } from './source-rules.js';

export interface Exception {
  readonly rule: RuleName;
  /** Path below src/. */
  readonly file: string;
  readonly reason: string;
  /** Names that are used there, by the function around them. */
  readonly places: Readonly<Record<string, string>>;
}

const KERNEL = 'files of the kernel’s, in /proc, /sys or cgroups';
const OPERATOR = 'a path that the operator typed';

export const EXCEPTIONS: readonly Exception[] = [
  {
    rule: 'fs path',
    file: 'agent/tar-extract.ts',
    reason:
      'the folder that the operator names is opened once; below it each name goes with the descriptor of an open folder, and no link is followed',
    places: {
      'Extractor.constructor': 'openSync',
      'Extractor.put': 'symlinkSync lchownSync lutimesSync',
      'Extractor.#writeFile': 'openSync',
      'Extractor.#link': 'openSync lstatSync linkSync',
      enterOne: 'openSync',
      makeFolder: 'mkdirSync lstatSync',
      removeName: 'lstatSync rmdirSync unlinkSync',
    },
  },
  {
    rule: 'fs path',
    file: 'bin/code-cache.cts',
    reason: 'the command’s own files, beside it',
    places: { module: '*' },
  },
  {
    rule: 'evaluated text',
    file: 'bin/code-cache.cts',
    reason: 'the command’s own files, beside it',
    places: { module: '*' },
  },
  {
    rule: 'fs path',
    file: 'bin/tsvm.cts',
    reason:
      'before anything else is loaded: the folder of bytecode, looked at once, and only Node writes there',
    places: { module: '*' },
  },
  {
    rule: 'process.env',
    file: 'bin/tsvm.cts',
    reason: 'where caches are, by XDG’s rules; the folder is checked',
    places: { bytecodeFolder: 'XDG_CACHE_HOME' },
  },
  {
    rule: 'foreseen name',
    file: 'cli/background.ts',
    reason: '64 random bits, and O_EXCL',
    places: { startInBackground: 'tmpdir' },
  },
  {
    rule: 'fs path',
    file: 'cli/background.ts',
    reason: 'made with O_EXCL under a random name, and removed by it',
    places: { startInBackground: 'openSync rmSync' },
  },
  {
    rule: 'fs path',
    file: 'cli/session/first-word.ts',
    reason:
      'whether there are names of images at all, whose folder is opened as ours then; and the guest’s initramfs',
    places: { isKept: 'existsSync', hasProgram: 'readFileSync' },
  },
  {
    rule: 'fs path',
    file: 'cli/commands/guest.ts',
    reason: 'the package’s own recipes',
    places: { runRecipes: 'existsSync' },
  },
  {
    rule: 'fs path',
    file: 'cli/commands/logs.ts',
    reason: 'a log in a folder that was checked when the machine was found',
    places: { logsCommand: 'createReadStream existsSync' },
  },
  {
    rule: 'fs path',
    file: 'cli/commands/image-archives.ts',
    reason: OPERATOR,
    places: { writeWhole: 'createWriteStream renameSync rmSync' },
  },
  {
    rule: 'process.exit',
    file: 'cli/commands/top.ts',
    reason: 'a dashboard holds no machine, and its streams of events would keep the process',
    places: { once: 'exit', watch: 'exit' },
  },
  {
    rule: 'foreseen name',
    file: 'cli/doctor/diagnosis.ts',
    reason: 'how much room is there: nothing is made',
    places: { diagnose: 'tmpdir' },
  },
  {
    rule: 'process.exit',
    file: 'cli/session/run-streams.ts',
    reason: 'nobody reads what is left to write, and the machine has ended',
    places: { exitWithoutReader: 'exit' },
  },
  {
    rule: 'fs path',
    file: 'cli/options/output-file.ts',
    reason: OPERATOR,
    places: { lookAtOutputFile: 'accessSync statSync', writeOutputFile: 'writeFileSync' },
  },
  {
    rule: 'fs path',
    file: 'compare/compare.ts',
    reason: 'a file that the operator named',
    places: { compare: 'existsSync' },
  },
  {
    rule: 'fs path',
    file: 'compare/compare.ts',
    reason: 'the package’s own build of the probe',
    places: { probeArchive: 'readFileSync' },
  },
  {
    rule: 'fs path',
    file: 'compare/machine-subject.ts',
    reason: 'a fresh folder of mkdtemp()',
    places: { machineSubjects: 'mkdtempSync rmSync' },
  },
  {
    rule: 'evaluated text',
    file: 'compare/measure.ts',
    reason: 'the word gc',
    places: { collectGarbage: 'runInNewContext' },
  },
  {
    rule: 'fs path',
    file: 'compare/shell-subject.ts',
    reason: 'a fresh folder of mkdtemp()',
    places: {
      shellSubject: 'mkdtempSync',
      'shellSubject.[Symbol.asyncDispose]': 'rmSync',
      phasesOf: 'existsSync readFileSync',
    },
  },
  {
    rule: 'fs path',
    file: 'container/cgroup-host.ts',
    reason: KERNEL,
    places: {
      hostHierarchies: 'readFileSync',
      parentIn: 'readFileSync statSync writeFileSync',
      removeTree: 'rmdirSync',
      subdirectories: 'readdirSync',
      namesIn: 'readdirSync',
    },
  },
  {
    rule: 'fs path',
    file: 'container/cgroup-limits.ts',
    reason: 'a device that the operator named',
    places: { ioSettings: 'statSync' },
  },
  {
    rule: 'fs path',
    file: 'container/cgroup.ts',
    reason: KERNEL,
    places: {
      'Cgroup.ofRunning': 'existsSync',
      'Cgroup.create': 'mkdirSync',
      'Cgroup.processes': 'readFileSync',
      'Cgroup.add': 'writeFileSync',
      'Cgroup.#set': 'writeFileSync',
      'Cgroup.#read': 'readFileSync',
    },
  },
  {
    rule: 'fs path',
    file: 'container/agent/socket.ts',
    reason: 'a fresh folder of mkdtemp()',
    places: { 'AgentSocket.make': 'mkdtempSync', sweepAgentSockets: 'readdirSync', remove: 'rmdirSync' },
  },
  {
    rule: 'foreseen name',
    file: 'container/agent/socket.ts',
    reason: 'only looks for folders of this user’s; they are made by mkdtemp()',
    places: { sweepAgentSockets: 'tmpdir' },
  },
  {
    rule: 'fs path',
    file: 'container/config.ts',
    reason: 'layers and volumes that the operator named',
    places: { stats: 'statSync' },
  },
  {
    rule: 'fs path',
    file: 'container/container.ts',
    reason: 'the agent beside the launcher',
    places: { agentParts: 'existsSync readFileSync' },
  },
  {
    rule: 'fs path',
    file: 'container/container.ts',
    reason: 'folders that the operator named',
    places: { startContainer: 'existsSync statSync' },
  },
  {
    rule: 'fs path',
    file: 'container/container.ts',
    reason: KERNEL,
    places: { allIds: 'readFileSync', writeMaps: 'writeFileSync' },
  },
  {
    rule: 'fs path',
    file: 'container/copied-root.ts',
    reason: 'a copy in a fresh folder of mkdtemp(), whose links are copied as links',
    places: {
      copyLayers: 'cp lstatSync mkdirSync mkdtempSync',
      sweepCopies: 'readdirSync',
      removeCopy: 'rmdirSync',
      takes: 'lstatSync rmSync',
    },
  },
  {
    rule: 'foreseen name',
    file: 'container/copied-root.ts',
    reason: 'only looks for folders of this user’s; they are made by mkdtemp()',
    places: { sweepCopies: 'tmpdir' },
  },
  {
    rule: 'fs path',
    file: 'container/engines/docker-image.ts',
    reason: KERNEL,
    places: { dockerContainerPid: 'readFileSync' },
  },
  {
    rule: 'process.env',
    file: 'container/engines/engine.ts',
    reason: 'a list of names that engines need',
    places: { keptEnvironment: '*' },
  },
  {
    rule: 'fs path',
    file: 'container/masked-paths.ts',
    reason: KERNEL,
    places: { maskedPaths: 'existsSync', namesIn: 'existsSync readdirSync' },
  },
  {
    rule: 'foreseen name',
    file: 'container/engines/oci-bundle.ts',
    reason: 'a fresh tmpfs of the container’s',
    places: { mounts: '/dev/shm' },
  },
  {
    rule: 'fs path',
    file: 'container/engines/oci-bundle.ts',
    reason: 'a device that the operator named',
    places: { resources: 'statSync' },
  },
  {
    rule: 'fs path',
    file: 'container/user-network.ts',
    reason: KERNEL,
    places: { opensTun: 'statSync' },
  },
  {
    rule: 'fs path',
    file: 'control/logs/console-log.ts',
    reason: 'a log in a machine’s folder, which was claimed by OwnFolder',
    places: { 'ConsoleLog.#write': 'open', 'ConsoleLog.#rotate': 'rename' },
  },
  {
    rule: 'fs path',
    file: 'control/logs/log-file.ts',
    reason: 'a path that a client of the API named, who has the operator’s rights',
    places: { openLog: 'open stat' },
  },
  {
    rule: 'process.env',
    file: 'control/machine-store.ts',
    reason: 'where machines are, by XDG’s rules; the folder is checked when it is opened',
    places: { runDirectory: '*' },
  },
  {
    rule: 'foreseen name',
    file: 'control/machine-store.ts',
    reason: 'the folder is opened by OwnFolder, which refuses another user’s',
    places: { runDirectory: 'tmpdir' },
  },
  { rule: 'fs path', file: 'dashboard/sampler.ts', reason: KERNEL, places: { 'Sampler.#count': 'statSync' } },
  {
    rule: 'process.env',
    file: 'host/cache-directory.ts',
    reason: 'where caches are, by XDG’s rules; each folder is checked when it is opened',
    places: { cacheDirectory: '* XDG_CACHE_HOME' },
  },
  {
    rule: 'fs path',
    file: 'cli/options/registry-options.ts',
    reason: 'the host’s own certificates, which only the superuser changes',
    places: { registrySettings: 'existsSync' },
  },
  {
    rule: 'fs path',
    file: 'host/files.ts',
    reason: OPERATOR,
    places: { openChecked: 'open', readInputText: 'createReadStream' },
  },
  {
    rule: 'fs path',
    file: 'host/files.ts',
    reason: 'makes folders that OwnFolder opens, or in a fresh folder that it checked',
    places: { makeFolders: 'mkdirSync', factsAt: 'statSync' },
  },
  {
    rule: 'fs path',
    file: 'guest/store.ts',
    reason: 'the guest that came with the package, and the descriptor of a folder that was looked at',
    places: { guestsOn: 'readdirSync readFileSync readlinkSync' },
  },
  {
    rule: 'fs path',
    file: 'host/disk/disk-usage.ts',
    reason: 'looks how large files are, through no link, and opens nothing',
    places: { diskUsage: 'lstatSync readdirSync' },
  },
  {
    rule: 'fs path',
    file: 'host/facts.ts',
    reason: KERNEL,
    places: { readHostFacts: 'readdirSync', hostMemory: 'readFileSync', readCpu: 'openSync' },
  },
  {
    rule: 'fs path',
    file: 'host/look.ts',
    reason: 'a folder that the operator named, which is only looked at',
    places: { lookAtSharedFolder: 'access stat' },
  },
  {
    rule: 'fs path',
    file: 'host/host-tree.ts',
    reason: KERNEL,
    places: {
      'HostTree.text': 'readFileSync',
      'HostTree.names': 'readdirSync',
      'HostTree.mode': 'statSync',
      'HostTree.stats': 'statSync lstatSync',
      'HostTree.link': 'readlinkSync',
    },
  },
  {
    rule: 'fs path',
    file: 'host/host-tree.ts',
    reason: 'room in a folder of the operator’s, of which nothing is opened',
    places: { 'HostTree.room': 'statfsSync', 'HostTree.#isWritable': 'accessSync' },
  },
  {
    rule: 'fs path',
    file: 'host/host.ts',
    reason: 'compares what the path leads to with what is open, and opens nothing',
    places: { 'machineHost.sizeOfSame': 'stat' },
  },
  { rule: 'fs path', file: 'host/kvm/open.ts', reason: KERNEL, places: { probeKvm: 'openSync' } },
  {
    rule: 'fs path',
    file: 'host/disk/overlay-file.ts',
    reason: 'a file that the operator named; made without a name, and linked',
    places: { create: 'link open rm', lookAtOverlayFile: 'access open stat' },
  },
  {
    rule: 'fs path',
    file: 'host/own-folder.ts',
    reason: 'the one way in',
    places: {
      'OwnFolder.#open': 'openSync',
      'OwnFolder.names': 'readdirSync',
      'OwnFolder.stats': 'lstatSync',
      'OwnFolder.makeFolder': 'mkdirSync',
      'OwnFolder.read': 'openSync',
      'OwnFolder.openFile': 'open',
      'OwnFolder.createFile': 'open',
      'OwnFolder.openLock': 'open',
      'OwnFolder.write': 'openSync writeFileSync',
      'OwnFolder.truncate': 'openSync',
      'OwnFolder.rename': 'renameSync',
      'OwnFolder.renameNew': 'linkSync unlinkSync',
      'OwnFolder.touch': 'utimesSync',
      'OwnFolder.remove': 'rmSync',
      makeRemovable: 'chmodSync readdirSync',
      isOwnFolder: 'lstatSync',
      isThere: 'lstatSync',
    },
  },
  {
    rule: 'fs path',
    file: 'host/path-in.ts',
    reason:
      'part by part at the descriptors of folders, without following a link: it is what others are to use',
    places: { readFileIn: 'openSync', openPathIn: 'openSync', linkAt: 'readlinkSync' },
  },
  {
    rule: 'fs path',
    file: 'host/proc.ts',
    reason: KERNEL,
    places: {
      processExists: 'existsSync',
      processStart: 'readFileSync',
      ownHeldMemory: 'readFile',
      procText: 'readFileSync',
    },
  },
  {
    rule: 'fs path',
    file: 'host/process/file-users.ts',
    reason: KERNEL,
    places: { processesUsing: 'readFileSync readlinkSync', namesIn: 'readdirSync' },
  },
  {
    rule: 'fs path',
    file: 'host/process/file-users.ts',
    reason: 'compares a folder with what is open, and opens nothing',
    places: { processesUsing: 'realpathSync' },
  },
  {
    rule: 'fs path',
    file: 'host/process/program-filter.ts',
    reason:
      'a file in a folder that mkdtemp() has made and that goes at once, and what the kernel says of it',
    places: { unnamedFile: 'mkdtemp writeFile open rm', position: 'readFile' },
  },
  {
    rule: 'process.env',
    file: 'host/process/program-filter.ts',
    reason: 'bsdcat and the like need PATH and the language; what they print is data',
    places: { programOutput: '*' },
  },
  {
    rule: 'process.env',
    file: 'host/process/program-path.ts',
    reason: 'finds a program as a shell does',
    places: { programPath: 'PATH' },
  },
  {
    rule: 'fs path',
    file: 'host/process/program-path.ts',
    reason: 'folders of the operator’s PATH',
    places: { programPath: 'accessSync' },
  },
  {
    rule: 'fs path',
    file: 'host/unix-listener.ts',
    reason:
      'a socket’s path that the operator named; made in a fresh folder of mkdtemp(), and held when it is connected to',
    places: {
      'UnixListener.close': 'lstatSync unlinkSync',
      lookAtSocketPath: 'access',
      listenPrivately: 'chmod link lstat mkdtemp open rm',
      openName: 'open stat',
      isStale: 'stat',
      removeStale: 'unlink',
      statOf: 'lstat',
      takeTurn: 'stat',
    },
  },
  {
    rule: 'fs path',
    file: 'image/guest-root.ts',
    reason: 'in a fresh folder of the store, which OwnFolder checked, from the guest’s own archive',
    places: { unpackGuest: 'symlinkSync' },
  },
  {
    rule: 'fs path',
    file: 'image/archive-file.ts',
    reason: 'in a fresh folder of the store, which OwnFolder checked',
    places: { writeArchive: 'createWriteStream' },
  },
  {
    rule: 'fs path',
    file: 'image/blob-store.ts',
    reason: 'begins at the descriptor of an OwnFolder',
    places: { 'BlobStore.checkSpace': 'statfs' },
  },
  {
    rule: 'fs path',
    file: 'image/store.ts',
    reason: 'both names begin at the descriptor of an OwnFolder',
    places: { showPart: 'renameSync' },
  },
  {
    rule: 'fs path',
    file: 'image/source/open-source.ts',
    reason: 'an image that the operator named',
    places: {
      findFile: 'existsSync',
      mayHaveSeveral: 'existsSync',
      lookAtFolder: 'existsSync',
      refuseUnfit: 'accessSync readdirSync',
    },
  },
  {
    rule: 'fs path',
    file: 'image/source/members.ts',
    reason: 'a file below a folder that the operator named, of a path without ..; Blob opens it',
    places: { 'folderMembers.find': 'existsSync' },
  },
  {
    rule: 'fs path',
    file: 'image/root-file.ts',
    reason: 'in a fresh folder of the store, which OwnFolder checked',
    places: { keepTables: 'writeFileSync' },
  },
  {
    rule: 'fs path',
    file: 'image/tree/erofs-sink.ts',
    reason: 'in a fresh folder of the store, which OwnFolder checked',
    places: { 'ErofsSink.create': 'open' },
  },
  {
    rule: 'fs path',
    file: 'image/registry/transport.ts',
    reason: OPERATOR,
    places: { 'Transport.#trust': 'readFileSync' },
  },
  {
    rule: 'fs path',
    file: 'machine/bindings.ts',
    reason: 'tells whether two names are one folder, and opens nothing by it',
    places: { realPath: 'realpathSync' },
  },
  {
    rule: 'fs path',
    file: 'machine/save.ts',
    reason: 'compares folders, and opens nothing',
    places: { snapshotMachine: 'realpath', folders: 'realpath' },
  },
  {
    rule: 'fs path',
    file: 'native/addon-error.ts',
    reason: 'the package’s own addon, of which the head is read',
    places: { stateOf: 'openSync' },
  },
  {
    rule: 'fs path',
    file: 'snapshot/reader.ts',
    reason: 'the folder may be named by a link; OwnFolder opens what it leads to',
    places: { resolveBase: 'realpath', openIn: 'realpath' },
  },
  {
    rule: 'fs path',
    file: 'snapshot/writer.ts',
    reason: 'an empty folder that it made; one that somebody put in its place would have to be empty as well',
    places: { 'SnapshotWriter.close': 'rmdir' },
  },
  {
    rule: 'fs path',
    file: 'snapshot/writer.ts',
    reason: 'folders above the one that the operator named, which are only looked at',
    places: { lookAtSnapshotTarget: 'access stat' },
  },
  {
    rule: 'fs path',
    file: 'snapshot/writer.ts',
    reason: 'begins at the descriptor of an OwnFolder',
    places: { 'SnapshotWriter.close': 'rm', removeLeftovers: 'rm' },
  },
  {
    rule: 'fs path',
    file: 'template/key.ts',
    reason: 'compares files that the operator named, and opens nothing',
    places: { fileIdentity: 'stat' },
  },
  {
    rule: 'fs path',
    file: 'util/package-file.ts',
    reason: 'the package’s own file',
    places: { installedPackage: 'readFileSync', isClone: 'existsSync' },
  },
  {
    rule: 'fs path',
    file: 'sandbox/copy-in.ts',
    reason: OPERATOR,
    places: { copyIn: 'readlinkSync createReadStream', factsOf: 'statSync lstatSync', packed: 'readdirSync' },
  },
  {
    rule: 'fs path',
    file: 'sandbox/copy-out.ts',
    reason: OPERATOR,
    places: { kindHere: 'statSync' },
  },
];
