/** Schemas of what is said in tsvm's own words, beside Firecracker's. */
import { z } from 'zod';
import { TsvmError } from '../../errors.js';
import { type MachineSpec, parseSpec, SPEC_SCHEMA } from '../../machine/spec.js';

/** Spec of a machine. Its fields are checked where they are defined, in machine/spec.ts. */
export const machineSpec = z
  .unknown()
  .meta({ ...SPEC_SCHEMA })
  .transform((data, context): MachineSpec => {
    try {
      return parseSpec(data);
    } catch (error) {
      if (!(error instanceof TsvmError)) throw error;
      context.issues.push({ code: 'custom', message: error.message, input: data });
      return z.NEVER;
    }
  });

/** Bindings of a saved machine's slots by their names: what it may have of the host. */
export const slotBindings = z
  .record(z.string(), z.record(z.string(), z.unknown()))
  .describe(
    '{"disk 0": {"path": ..., "direct": true}, "share TAG": {"path": ..., "readOnly": true}, "net 0": {"backend": "user"}, ...}',
  );

const milliseconds = z.int().min(0).describe('milliseconds since 1970');

/** Reply to `GET /tsvm/machine`. */
export const machineFacts = z.strictObject({
  id: z.string(),
  state: z.enum(['Not started', 'Running', 'Paused', 'Ended', 'Serving']),
  pid: z.int(),
  created_ms: milliseconds,
  started_ms: milliseconds.optional(),
  end: z.strictObject({ kind: z.string(), exitCode: z.int(), message: z.string().optional() }).optional(),
  isolation: z.literal('container').optional().describe('absent from a machine'),
  process_1: z.int().optional().describe('of a container: its process 1, as the host numbers it'),
  profile: z.string().optional(),
  has_terminal: z.boolean().optional(),
  cmdline: z.string().optional().describe('the guest kernel’s whole command line'),
  cpus: z.int().optional(),
  memory_bytes: z.int().optional(),
  devices: z.array(z.looseObject({ kind: z.string() })).optional(),
  directory: z.string().optional().describe('folder that relative paths of the spec are relative to'),
  spec: machineSpec.optional().describe('absent from a machine with a device that a program has made for it'),
});
