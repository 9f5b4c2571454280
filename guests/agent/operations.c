/* Operations that the agent knows. */
#include "agent.h"

const struct operation *find_operation(const char *name) {
  static const struct operation *const tables[] = {process_operations, file_operations, content_operations, tree_operations, watch_operations, port_operations};
  for (ulong i = 0; i < sizeof tables / sizeof *tables; i++)
    for (const struct operation *row = tables[i]; row->name; row++)
      if (equal(row->name, name)) return row;
  return 0;
}
