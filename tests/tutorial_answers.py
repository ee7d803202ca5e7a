"""To each question of the tutorial pack an answer that tells every key point, and one that tells none and says what is
false; by the first words of the question."""

GOOD = {
    "What is a list comprehension": """
A list comprehension builds a **new list** from each item of an iterable, in one expression. An `if` clause keeps only
the items that meet a condition. Take one where it stays short and readable; it does not change the list it reads.

```python
squares = [n * n for n in range(10) if n % 2]
```
""",
    "How do a list and a tuple": """
A list is mutable: items can be added, removed and replaced. A tuple is **immutable**. Lists are written in square
brackets, tuples with commas, mostly in parentheses. A tuple of hashable items can be a dictionary key, a list cannot.
""",
    "In a try statement": """
The `try` block runs first. An `except` clause runs when the exception raised matches it. `else` runs if no exception
was raised. `finally` always runs on the way out, even after a `return` or when the exception is not handled.
""",
    "What does the with": """
`with` uses a **context manager**: the file's `__enter__` runs first, its `__exit__` at the end, which closes the file,
even if the block raises an exception. It does not suppress the exception.

```python
with open("notes.txt", encoding="utf-8") as f:
    text = f.read()
```
""",
    "Write a function that returns all prime": """
```python
def primes(n):
    is_prime = [False, False] + [True] * (n - 1)
    for p in range(2, int(n**0.5) + 1):
        if is_prime[p]:
            for k in range(p * p, n + 1, p):
                is_prime[k] = False
    return [i for i, prime in enumerate(is_prime) if prime]
```

Multiples of every prime are crossed out, from its square on; the numbers that remain are prime. Beyond the root of n
nothing is left to cross out. 1 is not prime.
""",
    "What does json.dumps do": r"""
By default they are escaped: "ü" becomes `"\u00fc"`. That is what `ensure_ascii=True`, the default, means. With
`ensure_ascii=False` they are written as they are. Nothing is lost, and dumps does not raise.
""",
    "Why does my function with": """
The default value is evaluated only once, when the function is defined, and not at each call. All calls that leave the
argument out share the same list. Use `None` and make a list inside:

```python
def add(item, items=None):
    items = [] if items is None else items
    items.append(item)
    return items
```
""",
    "What is the difference between ==": """
`==` compares the values of two objects. `is` compares their identity: it is true only for the same object. Two lists
can be equal and still be two different lists. Use `is` for singletons: `x is None`.
""",
    "What does yield do": """
`yield` makes the function a generator. A call gives an iterator; each `next()` runs the body to the next yield, hands
out that value and **suspends** the function. It resumes from there when it is asked for more.

```python
def count(n):
    while n:
        yield n
        n -= 1
```
""",
    "Should I call sorted": """
`sorted()` returns a new list and takes any iterable. `list.sort()` sorts the list in place and returns `None`. Use
`sort` if you no longer need the old order.
""",
}

BAD = {
    "What is a list comprehension": "It is a loop which will modify the list in place. It is quicker.",
    "How do a list and a tuple": "They are the same thing. Lists are immutable, and a tuple is slower.",
    "In a try statement": "All parts run one after the other, and finally runs only if nothing went wrong.",
    "What does the with": "It gives the file a short name and catches all errors, so nothing needs handling.",
    "Write a function that returns all prime": "Divide each number by all smaller ones. Note that 1 is a prime.",
    "What does json.dumps do": "They cannot be written: dumps raises a UnicodeEncodeError. The default is False.",
    "Why does my function with": "Python keeps globals between calls; a default is evaluated at each call.",
    "What is the difference between ==": "They mean the same: is compares the values, and is the faster of both.",
    "What does yield do": "It is another word for return: yield ends the function.",
    "Should I call sorted": "They do the same; sort() returns the sorted list, which you assign.",
}
