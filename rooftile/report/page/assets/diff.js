// Differences between two texts, by lines that occur once in each ("patience"): IR defines each value on its own line.

// A line that only moved in or out, into a region, say, has not changed.
function difference(old, fresh) {
  const [before, after] = [old.map((line) => line.trimStart()), fresh.map((line) => line.trimStart())];
  const rows = [];
  const same = (a, b) => {
    rows.push({ kind: "same", a, b, text: fresh[b] });
  };
  function between(a0, a1, b0, b1) {
    while (a0 < a1 && b0 < b1 && before[a0] === after[b0]) same(a0++, b0++);
    let tail = 0;
    while (a0 < a1 - tail && b0 < b1 - tail && before[a1 - 1 - tail] === after[b1 - 1 - tail]) tail++;
    const anchors = commonOnce(before, after, a0, a1 - tail, b0, b1 - tail);
    let [a, b] = [a0, b0];
    if (anchors.length) {
      for (const [x, y] of anchors) {
        between(a, x, b, y);
        same(x, y);
        [a, b] = [x + 1, y + 1];
      }
      between(a, a1 - tail, b, b1 - tail);
    } else rows.push(...replaced(old, fresh, a, a1 - tail, b, b1 - tail));
    for (let i = tail; i > 0; i--) same(a1 - i, b1 - i);
  }
  between(0, before.length, 0, after.length);
  return rows;
}

// The longest rising sequence of lines that stand once in either part.
function commonOnce(before, after, a0, a1, b0, b1) {
  const count = new Map();
  for (let i = a0; i < a1; i++) {
    const seen = count.get(before[i]);
    count.set(before[i], seen ? { ...seen, a: seen.a + 1 } : { a: 1, b: 0, at: i });
  }
  for (let j = b0; j < b1; j++) {
    const seen = count.get(after[j]);
    if (seen) {
      seen.b++;
      seen.to = j;
    }
  }
  const pairs = [...count.values()]
    .filter((seen) => seen.a === 1 && seen.b === 1)
    .map((seen) => [seen.at, seen.to])
    .sort((p, q) => p[0] - q[0]);
  const piles = [];
  for (const pair of pairs) {
    let [low, high] = [0, piles.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (piles[middle].pair[1] < pair[1]) low = middle + 1;
      else high = middle;
    }
    piles[low] = { pair, below: low ? piles[low - 1] : null };
  }
  const found = [];
  for (let pile = piles[piles.length - 1]; pile; pile = pile.below) found.unshift(pile.pair);
  return found;
}

// Removed and added lines; those that define the same value stand together, with the pieces that differ marked.
function replaced(before, after, a0, a1, b0, b1) {
  const old = new Map();
  for (let i = a0; i < a1; i++) {
    const name = definedBy(before[i]);
    if (name) old.set(name, i);
  }
  const rows = [];
  let next = a0;
  const drop = (i, marked) => rows.push({ kind: "del", a: i, text: before[i], marked });
  for (let j = b0; j < b1; j++) {
    const partner = old.get(definedBy(after[j]));
    if (partner === undefined || partner < next) {
      rows.push({ kind: "add", b: j, text: after[j] });
      continue;
    }
    while (next < partner) drop(next++);
    const [gone, come] = differing(irPieces(before[partner]), irPieces(after[j]));
    drop(next++, gone);
    rows.push({ kind: "add", b: j, text: after[j], marked: come });
  }
  while (next < a1) drop(next++);
  return rows;
}

// The places of pieces between the common start and the common end of two lines.
function differing(old, fresh) {
  const equal = (p, q) => p[0] === q[0];
  let start = 0,
    end = 0;
  while (start < old.length && start < fresh.length && equal(old[start], fresh[start])) start++;
  while (
    end < old.length - start &&
    end < fresh.length - start &&
    equal(old[old.length - 1 - end], fresh[fresh.length - 1 - end])
  )
    end++;
  const places = (pieces) => new Set(Array.from({ length: pieces.length - start - end }, (_, i) => start + i));
  return [places(old), places(fresh)];
}

// Runs of unchanged lines, but for a few around what changed, become one row that unfolds.
function folded(rows, around = 3) {
  const near = new Uint8Array(rows.length);
  rows.forEach((row, i) => {
    if (row.kind !== "same") near.fill(1, Math.max(0, i - around), i + around + 1);
  });
  const shown = [];
  for (let i = 0; i < rows.length;) {
    if (near[i]) {
      shown.push(rows[i++]);
      continue;
    }
    const start = i;
    while (i < rows.length && !near[i]) i++;
    shown.push({ kind: "fold", rows: rows.slice(start, i) });
  }
  return shown;
}
