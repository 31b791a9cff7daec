# What `draw` in problems.yaml may use, part of the binary. `seed` and `given` stand before this,
# and `return` with the problem's own expression behind it. The generator is SplitMix64, as in
# core/base/random.h: importing Python's own would take longer than all the rest.
WORDS = (
    "apple bread cloud dance eagle flame grape house island jungle kettle lemon mango noon ocean "
    "pepper queen river stone table umbrella violet window yellow zebra level radar tree book moon "
    "summer winter garden silver coffee banana letter kitchen bottle a an to we sun map egg owl "
    "ink fog cup rope lamp boat fish").split()

def inputs(index):
    if index < len(given):
        return given[index]()
    state = seed + (index << 32)
    def r(low, high):
        nonlocal state
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return low + (z ^ z >> 31) % (high - low + 1)
    def pick(items):
        return items[r(0, len(items) - 1)]
    def ints(shortest, longest, low, high):
        return [r(low, high) for _ in range(r(shortest, longest))]
    def words(fewest, most):
        return [pick(WORDS) for _ in range(r(fewest, most))]
    def text(fewest, most):
        return " ".join(words(fewest, most))
    def letters(shortest, longest, alphabet="abcdefghijklmnopqrstuvwxyz"):
        return "".join(pick(alphabet) for _ in range(r(shortest, longest)))
    def sample(items, count):
        items = list(items)
        return [items.pop(r(0, len(items) - 1)) for _ in range(count)]
