/** Containers that this process starts, by tsvm's own launcher or by another runtime. */
import type { ContainerConfig } from '../container/config.js';
import { ENGINES, type Engine } from '../container/config.js';
import { type ContainerHost, startContainer } from '../container/container.js';
import { DockerImage, dockerContainerPid } from '../container/engines/docker-image.js';
import { parentOf } from '../host/proc.js';
import { collectOutput } from './output.js';
import { descendants } from './process-tree.js';
import type { Instance, ProbeMode, Subject } from './subject.js';

/** @param config all but the command. @param image disposed of with the subject */
export function containerSubject(
  name: string,
  config: Omit<ContainerConfig, 'argv'>,
  host: ContainerHost = {},
  image?: AsyncDisposable,
): Subject {
  return {
    name,
    wall: 'container',
    from: 'process',
    start: (mode) => start({ ...config, argv: ['/probe', mode] }, mode, host),
    async [Symbol.asyncDispose]() {
      await image?.[Symbol.asyncDispose]();
    },
  };
}

/** The runtimes that are installed and work here; `onMissing` is told of the others. */
export async function engineSubjects(
  config: Omit<ContainerConfig, 'argv'>,
  onMissing: (engine: Engine, why: string) => void,
): Promise<readonly Subject[]> {
  const found: Subject[] = [];
  for (const engine of ENGINES) {
    try {
      // Handed to its daemon once, as an image is pulled once.
      const dockerImage = engine === 'docker' ? await DockerImage.import(config.layers[0] ?? '') : undefined;
      const host = { engine, ...(dockerImage === undefined ? {} : { dockerImage }) };
      const subject = containerSubject(`container, by ${engine}`, config, host, dockerImage);
      await (await subject.start('start')).ended();
      found.push(subject);
    } catch (error) {
      onMissing(engine, error instanceof Error ? error.message : String(error));
    }
  }
  return found;
}

async function start(config: ContainerConfig, mode: ProbeMode, host: ContainerHost): Promise<Instance> {
  const begun = performance.now();
  const since = (): number => performance.now() - begun;
  const container = await startContainer(config, host);
  const createMs = since();
  let complaint = '';
  const { stdout } = container;
  if (stdout === null) throw new Error('the container has no pipes');
  const output = collectOutput(stdout, since);
  container.stderr?.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  container.stdin?.on('error', () => {}); // it ended before it was told to
  if (mode !== 'idle') container.stdin?.end();
  const end = container.wait().then(({ status }) => {
    if (status.kind === 'exited' && status.code === 0) return since();
    throw new Error(`the program ended with ${JSON.stringify(status)} in a container: ${complaint.trim()}`);
  });
  end.catch(() => {}); // whoever waits is told
  const firstMs = await Promise.race([output.firstMs, end]);
  // Docker's is no child of ours, but of a process of its daemon's that looks after it alone.
  const keeper =
    host.engine === 'docker' && mode === 'idle'
      ? parentOf(await dockerContainerPid(container.name))
      : undefined;
  return {
    firstMs,
    phases: [
      { name: 'create', ms: createMs },
      { name: 'program', ms: firstMs - createMs },
    ],
    processes: () =>
      [container.launcherPid, keeper].flatMap((pid) => (pid === undefined ? [] : descendants(pid))),
    cgroupBytes: () => container.usage.memoryBytes,
    async ended() {
      container.stdin?.end();
      return { ms: await end, output: output.text() };
    },
    async stop() {
      await container[Symbol.asyncDispose]();
    },
  };
}
