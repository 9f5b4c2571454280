/**
 * Firecracker's paths, with its status codes, over machines of tsvm's.
 *
 * @spec firecracker-1.13 "paths"  The machine: boot source, configuration, actions, snapshots, state  #yes
 */
import type { z } from 'zod';
import type { MachineConfig } from '../../machine/config.js';
import { VERSION } from '../../util/version.js';
import { ApiError } from '../api-error.js';
import { type Route, route } from '../http/route.js';
import type { Instance } from '../instance.js';
import type { SlotBindings } from '../pool-request.js';
import { deviceRoutes } from './device-routes.js';
import { draftOf } from './draft.js';
import * as models from './models.js';
import { bindingsOf } from './overrides.js';
import { ABSENT, checkBootSource, checkMachine, DEFAULT_MACHINE, unsupported } from './setup.js';

/** Of the API that is spoken. */
const API_VERSION = '1.13.0';

const before = { when: 'before start' } as const;
const after = { when: 'after start' } as const;

export const firecrackerRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/',
    summary: 'what this is, and how it is',
    reply: models.instanceInfo,
    handle: ({ instance }) => ({
      app_name: 'tsvm',
      id: instance.id,
      state: FIRECRACKER_STATES[instance.state],
      vmm_version: VERSION,
    }),
  }),
  route({
    method: 'GET',
    path: '/version',
    summary: 'of the API',
    reply: models.version,
    handle: () => ({ firecracker_version: API_VERSION }),
  }),
  route({
    method: 'GET',
    path: '/vm/config',
    summary: 'the whole configuration',
    reply: models.fullConfiguration,
    handle({ instance }) {
      const { setup } = draftOf(instance);
      return {
        drives: [],
        'network-interfaces': [],
        ...setup,
        'machine-config': { ...DEFAULT_MACHINE, ...setup['machine-config'] },
      };
    },
  }),
  route({
    method: 'GET',
    path: '/machine-config',
    summary: 'vCPUs and memory',
    reply: models.machineConfiguration,
    handle: ({ instance }) => ({
      smt: false,
      track_dirty_pages: false,
      huge_pages: 'None',
      ...DEFAULT_MACHINE,
      ...draftOf(instance).setup['machine-config'],
    }),
  }),
  route({
    ...before,
    method: 'PUT',
    path: '/machine-config',
    summary: 'sets vCPUs and memory',
    body: models.machineConfiguration,
    handle({ instance, body }) {
      checkMachine(body);
      draftOf(instance).set({ 'machine-config': body });
      return undefined;
    },
  }),
  route({
    ...before,
    method: 'PATCH',
    path: '/machine-config',
    summary: 'changes some of vCPUs and memory',
    body: models.machineConfigurationUpdate,
    handle({ instance, body }) {
      const given = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));
      const machine = { ...DEFAULT_MACHINE, ...draftOf(instance).setup['machine-config'], ...given };
      checkMachine(machine);
      draftOf(instance).set({ 'machine-config': machine });
      return undefined;
    },
  }),
  route({
    ...before,
    method: 'PUT',
    path: '/boot-source',
    summary: 'sets kernel, initramfs and command line',
    body: models.bootSource,
    async handle({ instance, body }) {
      await checkBootSource(body);
      draftOf(instance).set({ 'boot-source': body });
      return undefined;
    },
  }),
  route({
    ...before,
    method: 'PUT',
    path: '/logger',
    summary: 'where requests are logged',
    body: models.logger,
    async handle({ instance, body }) {
      if (body.log_path !== undefined) await instance.logFiles.at('log', body.log_path).open();
      draftOf(instance).set({ logger: body });
      return undefined;
    },
  }),
  route({
    ...before,
    method: 'PUT',
    path: '/metrics',
    summary: 'where FlushMetrics writes them, a line of JSON each time',
    body: models.metricsTarget,
    async handle({ instance, body }) {
      await instance.logFiles.at('metrics', body.metrics_path).open();
      draftOf(instance).set({ metrics: body });
      return undefined;
    },
  }),
  route({
    ...before,
    method: 'PUT',
    path: '/serial',
    summary: 'a file that gets what the console says',
    body: models.serialDevice,
    async handle({ instance, body }) {
      if (body.serial_out_path != null) await instance.logFiles.at('serial', body.serial_out_path).open();
      draftOf(instance).set({ serial: body });
      return undefined;
    },
  }),
  route({
    method: 'PUT',
    path: '/actions',
    summary: 'starts it, or writes its metrics',
    body: models.action,
    handle: ({ instance, body }) => act(instance, body.action_type),
  }),
  route({
    ...after,
    method: 'PATCH',
    path: '/vm',
    summary: 'stops its vCPUs, or lets them go on',
    body: models.vmState,
    async handle({ instance, body }) {
      if (body.state === 'Paused') await instance.pause();
      else await instance.resume();
      return undefined;
    },
  }),
  route({
    ...after,
    method: 'PUT',
    path: '/snapshot/create',
    summary: 'saves it: snapshot_path is a folder, which has the memory too',
    body: models.snapshotCreate,
    async handle({ instance, body }) {
      if (instance.state !== 'Paused') throw new ApiError('Cannot save a machine that is not paused.');
      await instance.machine.snapshot(body.snapshot_path, { differential: body.snapshot_type === 'Diff' });
      return undefined;
    },
  }),
  route({
    ...before,
    method: 'PUT',
    path: '/snapshot/load',
    summary: 'makes a saved machine: snapshot_path is the folder; it gets of the host what is named here',
    body: models.snapshotLoad,
    async handle({ instance, body }) {
      if ((body.mem_file_path === undefined) === (body.mem_backend === undefined)) {
        throw new ApiError('Exactly one of mem_file_path and mem_backend must be there');
      }
      if (body.mem_backend?.backend_type === 'Uffd')
        throw unsupported('Uffd: memory is mapped from its file');
      const bindings = (saved: MachineConfig): SlotBindings => {
        if (body.clock_realtime === true && saved.channel !== true)
          throw unsupported(
            'clock_realtime: the clock of a guest without the channel goes on from where it stood',
          );
        return bindingsOf(saved, body);
      };
      await instance.load(body.snapshot_path, body.resume_vm === true, bindings, body.tsvm_fresh);
      return undefined;
    },
  }),
  ...deviceRoutes,
  ...ABSENT.flatMap(({ path, methods, what }) =>
    methods.map((method) =>
      route({
        method,
        path,
        summary: 'not here: refused by name',
        handle() {
          throw unsupported(what);
        },
      }),
    ),
  ),
];

/** It has no word for the others. */
const FIRECRACKER_STATES = {
  'Not started': 'Not started',
  Serving: 'Not started',
  Running: 'Running',
  Paused: 'Paused',
  Ended: 'Paused',
} as const;

async function act(
  instance: Instance,
  type: z.infer<typeof models.action>['action_type'],
): Promise<undefined> {
  switch (type) {
    case 'InstanceStart':
      instance.refuseContainer();
      if (instance.hasStarted) throw new ApiError('The microVM has already started.');
      await instance.start();
      return undefined;
    case 'FlushMetrics': {
      const path = draftOf(instance).setup.metrics?.metrics_path;
      if (path === undefined) throw new ApiError('Logger was not initialized: PUT /metrics first.');
      const file = instance.logFiles.at('metrics', path);
      await file.open();
      const { lostBytes } = file;
      const head = { utc_timestamp_ms: Date.now(), lost_log_bytes: instance.logFiles.lostBytes };
      file.write(`${JSON.stringify({ ...head, ...instance.machine.metrics() })}\n`);
      await file.settled();
      if (file.lostBytes > lostBytes) throw new ApiError(`${path} took no more, or not all of it.`);
      return undefined;
    }
    case 'SendCtrlAltDel':
      if (!instance.machine.pressCtrlAltDel())
        throw new ApiError('The guest has no driver that waits for keys. PUT /tsvm/stop ends the machine.');
      return undefined;
    default:
      return type satisfies never;
  }
}
