/** All of the control API. */
import { firecrackerRoutes } from './firecracker/routes.js';
import { inFirecrackerWords } from './firecracker/words.js';
import { agentRoute } from './http/agent-route.js';
import { machineRoutes } from './http/machine-routes.js';
import { openApiDocument } from './http/openapi.js';
import { type Route, route } from './http/route.js';
import { poolRoute } from './pool-route.js';

export const routes: readonly Route[] = [
  ...firecrackerRoutes.map(inFirecrackerWords),
  ...machineRoutes,
  agentRoute,
  poolRoute,
  route({
    method: 'GET',
    path: '/tsvm/openapi.json',
    summary: 'this API, described',
    handle: () => openApiDocument(routes),
  }),
];
