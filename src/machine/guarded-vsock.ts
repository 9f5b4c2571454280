/** A machine's vsock as its user has it: whoever is called for a connection of the guest's is called within the machine's guard. */
import type { MachineVsock } from '../host/vsock/endpoint.js';
import type { Guard } from '../util/guard.js';

export function guardedVsock(sockets: MachineVsock, guard: Guard): MachineVsock {
  return {
    get cid() {
      return sockets.cid;
    },
    connect: (port, options) => sockets.connect(port, options),
    listen: (port, onConnection) =>
      sockets.listen(port, guard.wrap(`a listener at port ${port} of the vsock`, onConnection)),
    bind: (path) => sockets.bind(path),
    renumber: (cid) => sockets.renumber(cid),
  };
}
