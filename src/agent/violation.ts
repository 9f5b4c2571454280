/** Violation of the protocol by the agent: it ends the connection, and nothing else. */
export class Violation extends Error {
  override readonly name = 'Violation';
}
