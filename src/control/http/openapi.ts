/** The API as a document (OpenAPI 3.1), made of the schemas that requests are checked against. */
import { z } from 'zod';
import { VERSION } from '../../util/version.js';
import type { Route } from './route.js';

const ERROR = { description: 'it cannot be done', content: jsonOf({ $ref: '#/components/schemas/Error' }) };

export function openApiDocument(routes: readonly Route[]): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const others = paths[route.path] ?? {};
    paths[route.path] = { ...others, [route.method.toLowerCase()]: operation(route) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'tsvm',
      version: VERSION,
      description:
        'The control API of one machine, over its Unix socket. Paths without /tsvm are those of Firecracker’s API.',
    },
    paths,
    components: {
      schemas: {
        Error: {
          type: 'object',
          properties: { fault_message: { type: 'string' } },
          required: ['fault_message'],
        },
      },
    },
  };
}

function operation(route: Route): object {
  const { path, summary, body, reply, when } = route;
  const parameters = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
  return {
    operationId: operationIdOf(route),
    summary: when === undefined ? summary : `${summary} (${when})`,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined ? {} : { requestBody: { required: true, content: jsonOf(schemaOf(body)) } }),
    responses: {
      200: {
        description: 'the answer',
        ...(reply === undefined ? {} : { content: jsonOf(schemaOf(reply)) }),
      },
      204: { description: 'done' },
      400: ERROR,
    },
  };
}

/** `GET /tsvm/console` is `getTsvmConsole`; a parameter is `ByName`. */
function operationIdOf({ operationId, method, path }: Route): string {
  if (operationId !== undefined) return operationId;
  const words = path.replace(/\{(\w+)\}/g, 'by-$1').split(/[^A-Za-z0-9]+/);
  return method.toLowerCase() + words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join('');
}

function schemaOf(schema: z.ZodType): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input' });
  return rest;
}

function jsonOf(schema: object): object {
  return { 'application/json': { schema } };
}
