/** `PUT /tsvm/machines/NAME`: a machine of a spec, of Firecracker's words, or of a saved one, in the process of `tsvm serve`. */
import { z } from 'zod';
import { ApiError } from './api-error.js';
import { draftOfSetup } from './firecracker/draft.js';
import { fullConfiguration } from './firecracker/models.js';
import { route } from './http/route.js';
import { machineSpec, slotBindings } from './http/schemas.js';
import type { PoolRequest } from './pool-request.js';

const argument = z.string().regex(/^[^\0]*$/, 'an argument of a command has no NUL in it');
const command = z.array(argument).optional();
const made = z.union([
  z.strictObject({ spec: machineSpec, command }),
  z.strictObject({ config: fullConfiguration }),
  z.strictObject({
    snapshot: z.string().min(1),
    command,
    devices: slotBindings.optional(),
    fresh: z.boolean().optional(),
  }),
]);

export const poolRoute = route({
  method: 'PUT',
  path: '/tsvm/machines/{name}',
  summary:
    'of tsvm serve: makes and starts a machine in its process, from a spec or a configuration, or from a saved one and what that may have of the host',
  body: made,
  async handle({ instance, body, parameters, gone }) {
    await instance.make(parameters['name'] ?? '', requestOf(body), gone);
    return undefined;
  },
});

function requestOf(body: z.infer<typeof made>): PoolRequest {
  if ('snapshot' in body) return body;
  if ('config' in body) return { draft: draftOfSetup(body.config) };
  const { spec, command } = body;
  if (command !== undefined && spec.guest !== 'channel' && spec.guest !== 'agent')
    throw new ApiError('command: only a guest with a channel waits for one. Say it in spec.command.');
  return { draft: { spec: async () => spec }, command };
}
