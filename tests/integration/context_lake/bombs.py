"""Queries of a few hundred bytes that would take a machine: processor, memory, stack or planner."""


def doubling(levels: int, *, by: str = "c{n} a, c{n} b") -> str:
    ctes = [f"c{n + 1} as (select 1 as x from {by.format(n=n)})" for n in range(levels)]
    return f"with c0 as (select 1 as x), {', '.join(ctes)} select count(*) from c{levels}"


def series(count: int, name: str) -> str:
    return f"generate_series(1, {count}) {name}"


BOMBS: dict[str, str] = {
    # Processor.
    "count a trillion": f"select count(*) from {series(10**12, 'a')}",
    "sum a trillion": f"select sum(value % 7) from {series(10**12, 'a')}",
    "cross join": f"select count(*) from {series(10**6, 'a')} cross join {series(10**6, 'b')}",
    "nested loop": f"select count(*) from {series(10**7, 'a')} join {series(10**7, 'b')} on a.value * 3 < b.value * 2",
    "three-way cross join": f"select max(a.value * b.value + c.value) from {series(10**5, 'a')}, "
    f"{series(10**5, 'b')}, {series(10**5, 'c')}",
    "anti join": f"select count(*) from {series(10**6, 'a')} where not exists "
    f"(select 1 from {series(10**6, 'b')} where b.value > a.value + 1)",
    "correlated": f"select (select count(*) from {series(10**6, 'b')} where b.value < a.value) from {series(10**6, 'a')}",
    "endless recursion": "with recursive r as (select 1 as x union all select x + 1 from r) select count(*) from r",
    "doubling recursion": "with recursive r as (select 1 as x union all select r.x from r, (values (1), (2)) v) "
    "select count(*) from r",
    "distinct recursion": "with recursive r as (select 1 as x union select x + 1 from r) select max(x) from r",
    "window": f"select sum(s) from (select sum(value) over (order by value rows between 100000 preceding and "
    f"current row) s from {series(10**8, 'a')})",
    "regular expression": f"select count(*) from {series(10**9, 'a')} where "
    "regexp_like(repeat('a', 1000) || value, '(a|a)*(a+)+b$')",
    "levenshtein": f"select sum(levenshtein(repeat('a', 20000), repeat('b', 20000))) from {series(10**5, 'a')}",
    "filter that lets nothing through": f"select * from {series(10**12, 'a')} where value < 0",
    "union of series": " union all ".join(f"select * from {series(10**11, 'a')} where value < 0" for _ in range(50)),
    # Memory.
    "sort": f"select value from {series(10**9, 'a')} order by value % 1000003, value desc",
    "group": f"select count(*) from (select value, count(*) from {series(10**9, 'a')} group by value)",
    "array of all": f"select array_agg(value) from {series(10**9, 'a')}",
    "text of all": f"select length(string_agg(cast(value as varchar), ',')) from {series(10**9, 'a')}",
    "distinct": f"select count(distinct value * 31) from {series(10**9, 'a')}",
    "hash join": f"select count(*) from {series(10**9, 'a')} join {series(10**9, 'b')} on a.value = b.value",
    "repeat": "select length(repeat('x', 2000000000))",
    "repeat by rows": f"select sum(length(repeat(cast(value as varchar), 1000000))) from {series(10**5, 'a')}",
    "repeat of repeat": "select length(repeat(repeat(repeat('x', 10000), 10000), 10000))",
    "rpad": "select length(rpad('x', 2000000000, 'y'))",
    "lpad": "select length(lpad('x', 2147483647, 'y'))",
    "range": "select array_length(range(0, 1000000000))",
    "ranges by rows": f"select sum(array_length(range(0, 10000000))) from {series(1000, 'a')}",
    "array_repeat": "select array_length(array_repeat(array_repeat(1, 100000), 100000))",
    "replace": "select length(replace(repeat('x', 1000000), 'x', repeat('y', 100000)))",
    "concat": "select length(concat(" + ", ".join(["repeat('x', 100000000)"] * 40) + "))",
    "unnest": "select count(*) from (select unnest(range(0, 1000000000)))",
    "wide rows": f"select repeat('x', 100000000) as x from {series(100, 'a')}",
    # Stack and planner.
    "plus": "select " + "+".join(["1"] * 10_000),
    "plus within the limit": "select " + "+".join(f"a.value % {n + 2}" for n in range(450)) + f" from {series(5, 'a')}",
    "or": "select 1 where " + " or ".join(f"1 = {n}" for n in range(5_000)),
    "or within the limit": f"select * from {series(5, 'a')} where " + " or ".join(f"value = {n}" for n in range(490)),
    "not": "select " + "not " * 20_000 + "true",
    "minus": "select " + "- " * 20_000 + "1",
    "parentheses": "select " + "(" * 5_000 + "1" + ")" * 5_000,
    "sub-queries": "select * from " + "(select * from " * 300 + "(select 1 as x)" + " x)" * 300,
    "case": "select " + "case when true then " * 3_000 + "1" + " end" * 3_000,
    "casts": "select 1" + "::int::varchar" * 3_000,
    "joins": "select 1 from " + " cross join ".join(f"(select 1 as x{n}) t{n}" for n in range(500)),
    "joins within the limit": "select count(*) from " + " join ".join(
        ["(select 1 as x) t0"] + [f"(select 1 as x) t{n} on t{n}.x = t{n - 1}.x" for n in range(1, 60)]
    ),
    "unions": " union all ".join(["select 1"] * 5_000),
    "CTE doubled 25 times": doubling(25),
    "CTE doubled 12 times": doubling(12),
    "CTE tenfold": doubling(8, by=", ".join(f"c{{n}} t{i}" for i in range(10))),
    "grouping sets": f"select count(*) from {series(10**6, 'a')} group by cube("
    + ", ".join(f"value % {n + 2}" for n in range(16)) + ")",
    "long list": f"select count(*) from {series(10, 'a')} where value in ({','.join(map(str, range(40_000)))})",
    "many columns": "select " + ", ".join(f"{n} as c{n}" for n in range(20_000)),
    "regular expression that grows": "select regexp_like('a', 'a{1000}{1000}{1000}')",
    "decimal": "select power(cast(9 as decimal(76, 0)), 1000000)",
}  # fmt: skip
