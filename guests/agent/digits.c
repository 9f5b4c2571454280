/* Digits of numbers. */
#include "agent.h"

char *decimal_long(ulong value, char text[24]) {
  char *at = text + 23;
  *at = 0;
  do *--at = (char)('0' + value % 10);
  while (value /= 10);
  return at;
}
