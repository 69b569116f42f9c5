// How cells are laid out: as tiles with names where they fit, as squares otherwise.

const TILE = { width: 148, height: 46, gap: 8 };
const SQUARES = [38, 30, 24, 20, 16, 13, 11, 9];

/**
 * The layout of so many cells in a field of this size. The largest cells are taken with which all fit; when even the
 * smallest do not the field scrolls.
 */
export function layout(cells, width, height) {
  const columns = Math.max(1, Math.floor((width + TILE.gap) / (TILE.width + TILE.gap)));
  const rows = Math.ceil(cells / columns);
  if (rows * (TILE.height + TILE.gap) - TILE.gap <= height) {
    const wide = Math.min((width - (columns - 1) * TILE.gap) / columns, 220);
    return { isTiles: true, columns, rows, width: wide, height: TILE.height, gap: TILE.gap };
  }
  for (const size of SQUARES) {
    const gap = size > 20 ? 4 : size > 12 ? 3 : 2;
    const columns = Math.max(1, Math.floor((width + gap) / (size + gap)));
    const rows = Math.ceil(cells / columns);
    if (rows * (size + gap) - gap <= height || size === SQUARES.at(-1)) {
      return { isTiles: false, columns, rows, width: size, height: size, gap };
    }
  }
  return null;
}

/** The number of the cell at this place, or -1. */
export function cellAt(layout, cells, x, y) {
  const column = Math.floor(x / (layout.width + layout.gap));
  const row = Math.floor(y / (layout.height + layout.gap));
  if (column < 0 || row < 0 || column >= layout.columns) return -1;
  const isInGap = x - column * (layout.width + layout.gap) > layout.width || y - row * (layout.height + layout.gap) > layout.height;
  const at = row * layout.columns + column;
  return isInGap || at >= cells ? -1 : at;
}

/** Where a cell is. */
export function place(layout, at) {
  return {
    x: (at % layout.columns) * (layout.width + layout.gap),
    y: Math.floor(at / layout.columns) * (layout.height + layout.gap),
  };
}
