"""Allocations and samples that others published, reproduced by the draw's arithmetic.

Votes and populations stand for the sizes of strata, seats for places: Webster's method is the same, whatever is dealt.
Each figure is cited with where it was read.
"""

import math
import random
from fractions import Fraction
from statistics import NormalDist

import pytest

from models.sampling import allocate, choose_by_size, extend

HOUSE_OF_1911 = """\
Alabama,2138093,10
Arkansas,1574449,7
California,2376561,11
Colorado,798572,4
Connecticut,1114756,5
Delaware,202322,1
Florida,752619,4
Georgia,2609121,12
Idaho,323440,2
Illinois,5638591,27
Indiana,2700876,13
Iowa,2224771,11
Kansas,1690949,8
Kentucky,2289905,11
Louisiana,1656388,8
Maine,742371,4
Maryland,1295346,6
Massachusetts,3366416,16
Michigan,2810173,13
Minnesota,2074376,10
Mississippi,1797114,8
Missouri,3293335,16
Montana,366338,2
Nebraska,1192214,6
Nevada,80293,1
New Hampshire,430572,2
New Jersey,2537167,12
New York,9108934,43
North Carolina,2206287,10
North Dakota,574403,3
Ohio,4767121,22
Oklahoma,1657155,8
Oregon,672765,3
Pennsylvania,7665111,36
Rhode Island,542610,3
South Carolina,1515400,7
South Dakota,575676,3
Tennessee,2184789,10
Texas,3896542,18
Utah,371864,2
Vermont,355956,2
Virginia,2061612,10
Washington,1140134,5
West Virginia,1221119,6
Wisconsin,2332853,11
Wyoming,144658,1
"""
"""State, population without Indians not taxed, members.

Members: Apportionment Act of 8 August 1911, Public Law 62-5, 37 Stat. 13, section 1 (433 members, by Webster's method
of major fractions). Population: Thirteenth Census of 1910, vol. I, as tabulated in
github.com/GPHemsley/house-apportionment (7c54ad3), data/1910_census.csv.
"""

WEBSTER_OF_2010 = """\
Alabama,4802982,7
Alaska,721523,1
Arizona,6412700,9
Arkansas,2926229,4
California,37341989,53
Colorado,5044930,7
Connecticut,3581628,5
Delaware,900877,1
Florida,18900773,27
Georgia,9727566,14
Hawaii,1366862,2
Idaho,1573499,2
Illinois,12864380,18
Indiana,6501582,9
Iowa,3053787,4
Kansas,2863813,4
Kentucky,4350606,6
Louisiana,4553962,6
Maine,1333074,2
Maryland,5789929,8
Massachusetts,6559644,9
Michigan,9911626,14
Minnesota,5314879,8
Mississippi,2978240,4
Missouri,6011478,8
Montana,994416,1
Nebraska,1831825,3
Nevada,2709432,4
New Hampshire,1321445,2
New Jersey,8807501,12
New Mexico,2067273,3
New York,19421055,27
North Carolina,9565781,14
North Dakota,675905,1
Ohio,11568495,16
Oklahoma,3764882,5
Oregon,3848606,5
Pennsylvania,12734905,18
Rhode Island,1055247,1
South Carolina,4645975,7
South Dakota,819761,1
Tennessee,6375431,9
Texas,25268418,36
Utah,2770765,4
Vermont,630337,1
Virginia,8037736,11
Washington,6753369,10
West Virginia,1859815,3
Wisconsin,5698230,8
Wyoming,568300,1
"""
"""State, apportionment population of the 2010 census, seats by Webster's method.

Populations and the actual seats: Census Bureau, 2010 apportionment, as tabulated in the same repository,
results/435/2010_435.csv. That Webster's method differs from the actual one only in giving North Carolina 14 and Rhode
Island 1: COMAP, For All Practical Purposes, 10th edition, chapter 14, example 22 (The 435th Seat).
"""


def _table(text):
    rows = [line.split(",") for line in text.splitlines()]
    return {name: int(size) for name, size, _ in rows}, {name: int(places) for name, _, places in rows}


def test_the_house_of_1911_comes_out_with_its_one_member_for_nevada():
    population, members = _table(HOUSE_OF_1911)
    assert sum(members.values()) == 433
    assert allocate(population, 433, 1) == members
    # The minimum is what gives Nevada its member, at the cost of Ohio.
    assert allocate(population, 433) == {**members, "Nevada": 0, "Ohio": 23}


def test_the_house_of_2010_by_webster_comes_out():
    population, seats = _table(WEBSTER_OF_2010)
    assert sum(population.values()) == 309_183_463
    assert allocate(population, 435, 1) == seats


@pytest.mark.parametrize(
    ("votes", "seats", "expected"),
    [
        # Balinski and Young, The quota method of apportionment, American Mathematical Monthly 82 (1975) 701–730, the
        # two examples with the column of Webster, as quoted in github.com/martinlackner/apportionment (25f7a87),
        # tests/test_methods.py, test_balinski_young_example1 and 2.
        ((5117, 4400, 162, 161, 160), 100, (51, 43, 2, 2, 2)),
        ((9061, 7179, 5259, 3319, 1182), 26, (9, 8, 5, 3, 1)),
        # R package proporz 1.5.2.9000 (github.com/polettif/proporz 5ec6239), tests/testthat/test-divisor.R, quoting
        # wahlrecht.de, verfahren/stlague12.html and verfahren/anschaulich.
        ((4160, 3380, 2460), 10, (4, 3, 3)),
        ((43, 33, 12, 8, 4), 10, (5, 3, 1, 1, 0)),
        # The same, highest_averages_method with divisors 0.5, 1.5 …
        ((5200, 1700, 3100), 15, (8, 2, 5)),
        # The same, test-proporz.R, "sainte-lague": 598 seats over six parties, 146 over sixteen lists.
        ((11828277, 9990488, 6316080, 5155933, 4643272, 2830238), 598, (173, 146, 93, 76, 68, 42)),
        (
            (430739, 143607, 242942, 1297940, 102419, 348216, 202850, 348082, 2678956, 328753, 812721, 216593, 520990,
             1120018, 1051198, 144464),
            146,
            (6, 2, 4, 19, 2, 5, 3, 5, 39, 5, 12, 3, 8, 16, 15, 2),
        ),
        # R package sps 0.6.4 (github.com/marberts/sps dd53946; so below), inst/tinytest/test-prop_allocation.R,
        # "Allocations are correct for voting examples", divisor a + 0.5 (from Wikipedia, Highest averages method).
        ((47000, 16000, 15900, 12000, 6000, 0, 3100), 10, (4, 2, 2, 1, 1, 0, 0)),
        # Latvia's eight seats in the European Parliament of 2019: github.com/kasperrisager/Apportionment.jl (c145fc1),
        # test/DivisorMethods.jl.
        ((124193, 82604, 77591, 58763, 29546, 25252, 23581, 20595, 13705), 8, (2, 2, 2, 1, 1, 0, 0, 0, 0)),
        # electowiki.org, Sainte-Laguë method, "35-seat example", its final and its last round but one.
        ((503, 304, 193), 35, (17, 11, 7)),
        ((503, 304, 193), 32, (16, 10, 6)),
    ],
)  # fmt: skip
def test_published_seats_come_out(votes, seats, expected):
    keys = [f"{n:02}" for n in range(len(votes))]
    assert allocate(dict(zip(keys, votes, strict=True)), seats) == dict(zip(keys, expected, strict=True))


def test_the_bundestag_of_2025_comes_out():
    # Second votes, preliminary result: Die Bundeswahlleiterin, kerg2025.csv (Datenlizenz Deutschland – Namensnennung –
    # Version 2.0); seats: github.com/PaulKeydel/Sitzverteilung_BT (705d05f), BTW25_reform2024.txt.
    votes = {
        "SPD": 8148284, "CDU": 11194700, "Grüne": 5761476, "AfD": 10327148, "CSU": 2963732, "Linke": 4355382,
        "SSW": 76126,
    }  # fmt: skip
    assert allocate(votes, 630) == {
        "SPD": 120, "CDU": 164, "Grüne": 85, "AfD": 152, "CSU": 44, "Linke": 64, "SSW": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("place", "seats"),
    [(1, (8, 3, 21, 1, 47, 15, 11, 29, 0, 2, 5, 4, 3, 7, 4, 4)), (2, (2, 2, 6, 1, 13, 4, 2, 6, 7, 1, 6, 3, 2, 4, 2, 3)),
     (3, (5, 2, 13, 1, 26, 9, 7, 19, 22, 2, 4, 8, 5, 14, 7, 8))],
    ids=["CDU", "Linke", "AfD"],
)  # fmt: skip
def test_the_seats_of_a_party_in_2025_over_the_states_come_out(place, seats):
    # The same sources. State, votes of CDU, Linke and AfD.
    states = [
        ("Schleswig-Holstein", 518367, 146398, 306191), ("Hamburg", 216782, 150930, 113463),
        ("Niedersachsen", 1409499, 405229, 894057), ("Bremen", 71567, 51461, 52494),
        ("Nordrhein-Westfalen", 3170708, 877058, 1769822), ("Hessen", 1033893, 311079, 636771),
        ("Rheinland-Pfalz", 760535, 161744, 498733), ("Baden-Württemberg", 2006537, 429472, 1256267),
        ("Bayern", 0, 456663, 1515533), ("Saarland", 160996, 43998, 129201), ("Berlin", 356091, 387142, 296999),
        ("Brandenburg", 297987, 176223, 535279), ("Mecklenburg-Vorpommern", 181963, 123051, 357356),
        ("Sachsen", 507168, 290440, 958363), ("Sachsen-Anhalt", 256535, 143803, 496100),
        ("Thüringen", 246072, 200691, 510519),
    ]  # fmt: skip
    votes = {state[0]: state[place] for state in states}
    assert allocate(votes, sum(seats)) == dict(zip(votes, seats, strict=True))


def test_places_dealt_one_by_one_go_in_the_published_order_of_seats():
    # github.com/pau-minoves/jseats, src/test/resources/stories/SainteLague.story, first scenario (from Wikipedia).
    votes = {"Yellows": 47000, "Whites": 16000, "Reds": 15900, "Greens": 12000, "Blues": 6000, "Pinks": 3100}
    state, order = dict.fromkeys(votes, 0), []
    for _ in range(10):
        dealt = extend(votes, state, votes, 1)
        order += [key for key, n in dealt.items() if n]
        state = {key: state[key] + dealt[key] for key in votes}
    assert order == ["Yellows", "Whites", "Reds", "Yellows", "Greens", "Yellows", "Yellows", "Blues", "Whites", "Reds"]


class _R:
    """The default generator of R: set.seed, runif and rnorm (Mersenne Twister, inversion), for published examples.

    The seed is scrambled by a linear congruence 50 times, the next 625 values are the twister's position and state, and
    a normal deviate inverts two uniform ones.
    """

    def __init__(self, seed):
        words = []
        for step in range(50 + 625):
            seed = (69069 * seed + 1) % 2**32
            if step >= 50:
                words.append(seed)
        self.twister = random.Random()
        self.twister.setstate((3, (*words[1:], 624), None))

    def runif(self):
        return self.twister.getrandbits(32) / 2**32

    def rnorm(self):
        return NormalDist().inv_cdf((int(2**27 * self.runif()) + self.runif()) / 2**27)


def _as_ticket(u):
    """A permanent random number as a ticket whose first 52 bits say the same; R's have 32."""
    scaled = Fraction(u) * 2**52
    return f"{int(scaled):013x}" + "0" * 51


def _chosen(x, n, prn):
    """Numbers of the units drawn, as R counts them from 1, and those of them that are certain."""
    # Sizes that are floats become whole without loss: all times the same power of two.
    sizes = {f"{i:02}": int(Fraction(size) * 2**60) for i, size in enumerate(x, 1)}
    drawn = choose_by_size(sizes, n, {f"{i:02}": _as_ticket(u) for i, u in enumerate(prn, 1)})
    return {int(c.customer_id) for c in drawn}, {int(c.customer_id) for c in drawn if c.is_certain}


def test_the_permanent_random_numbers_of_the_sps_vignette_draw_its_samples():
    # R package sps 0.6.2 (github.com/cran/sps 7f08854), vignette inst/doc/sps.html, section "Topping up":
    # set.seed(13026); x <- rlnorm(10); u <- runif(10).
    r = _R(13026)
    x = [math.exp(r.rnorm()) for _ in range(10)]
    u = [r.runif() for _ in range(10)]
    # sps_iterator(x, prn = u) prints 4, 6, 7, 2 and then 3 5 at once, as 5 units bring in two certain ones.
    assert [_chosen(x, n, u)[0] for n in (1, 2, 3, 4)] == [{4}, {4, 6}, {4, 6, 7}, {2, 4, 6, 7}]
    # sps(x, 6, prn = u) is 2 3 4 5 6 7.
    assert _chosen(x, 6, u)[0] == {2, 3, 4, 5, 6, 7}
    # sps(x, 4, prn = u) %in% sps(x, 5, prn = u) is TRUE TRUE TRUE FALSE.
    five = _chosen(x, 5, u)[0]
    assert [unit in five for unit in sorted(_chosen(x, 4, u)[0])] == [True, True, True, False]
    # becomes_ta(x), the sample size at which a unit becomes certain, is 10 4 5 5 5 9 8 10 9 9.
    first = {unit: min(n for n in range(1, 11) if unit in _chosen(x, n, u)[1]) for unit in range(1, 11)}
    assert list(first.values()) == [10, 4, 5, 5, 5, 9, 8, 10, 9, 9]


def test_equal_random_numbers_draw_in_the_order_that_sps_prints():
    # R package sps 0.6.4, inst/tinytest/test-sps_iterator.R, "Gives back order with same prn": 3 2 4 5 1.
    x, prn = (1, 4, 5, 3, 2), [0.5] * 5
    drawn, order = set(), []
    for n in range(1, 6):
        now = _chosen(x, n, prn)[0]
        order += now - drawn
        drawn = now
    assert order == [3, 2, 4, 5, 1]


@pytest.mark.parametrize(("shift", "expected"), [(0, {1, 2, 3, 4, 5}), (0.49, {5, 6, 7, 8, 9})])
def test_customers_of_one_size_are_drawn_by_their_random_numbers_alone(shift, expected):
    # R package sps 0.6.4, inst/tinytest/test-sps.R, "Pareto order sampling works" (units of one size, where all order
    # sampling takes the smallest numbers): prn 0.1 … 0.9, then shifted by 0.49 modulo 1.
    assert _chosen([1] * 9, 5, [(n / 10 - shift) % 1 for n in range(1, 10)])[0] == expected


def _probability(x, n, unit):
    """The probability that a draw of n aims at for a unit, seen by giving it the smallest ticket."""
    tickets = {f"{i:02}": ("0" if i == unit else "f") * 64 for i in range(1, len(x) + 1)}
    drawn = choose_by_size({f"{i:02}": size for i, size in enumerate(x, 1)}, n, tickets)
    return {int(c.customer_id): c.probability for c in drawn}[unit]


@pytest.mark.parametrize(
    ("x", "n", "expected"),
    [
        # R package sps 0.6.4, inst/tinytest/test-inclusion_prob.R, "Results agree with
        # sampling::inclusionprobabilities()" (R package sampling, whose help page has the first: 1:20, 12).
        (range(1, 21), 12, [Fraction(i * 8, 136) for i in range(1, 17)] + [1] * 4),
        ((1, 2, 5, 5, 5, 10, 4, 1), 6, [Fraction(1, 4), Fraction(1, 2), 1, 1, 1, 1, 1, Fraction(1, 4)]),
        # The same, with alpha = 0, which is this project's rule: the largest unit stays just below certain.
        (
            (100, 25, 94, 23, 55, 6, 80, 65, 48, 76, 31, 99, 45, 39, 28, 18, 54, 78, 4, 33),
            10,
            [
                Fraction(10 * size, 1001)
                for size in (100, 25, 94, 23, 55, 6, 80, 65, 48, 76, 31, 99, 45, 39, 28, 18, 54, 78, 4, 33)
            ],
        ),
        # The same, "Inclusion probs are correct with different rounds of TA removal": none, one and two rounds.
        ((1, 2, 3, 4, 10, 9, 8, 5, 6, 7), 4, [Fraction(4 * s, 55) for s in (1, 2, 3, 4, 10, 9, 8, 5, 6, 7)]),
        ((1, 2, 3, 4, 10, 9, 8, 5, 6, 7, 100), 4, [Fraction(3 * s, 55) for s in (1, 2, 3, 4, 10, 9, 8, 5, 6, 7)] + [1]),
        (
            (20, 1, 2, 3, 4, 10, 9, 8, 5, 6, 7, 100),
            5,
            [1] + [Fraction(3 * s, 55) for s in (1, 2, 3, 4, 10, 9, 8, 5, 6, 7)] + [1],
        ),
    ],
)
def test_published_inclusion_probabilities_come_out(x, n, expected):
    assert [_probability(list(x), n, unit) for unit in range(1, len(x) + 1)] == expected


@pytest.mark.parametrize(
    ("revenue", "n", "weights"),
    [
        # R package sps 0.6.4, README: sps(revenue, 6) of c(1:10, 100, 150), weights of units 4 5 6 8 11 12 …
        (
            [*range(1, 11), 100, 150],
            6,
            {4: "3.437500", 5: "2.750000", 6: "2.291667", 8: "1.718750", 11: "1.000000", 12: "1.000000"},
        ),
        # … and of 6 7 8 in stratum a, which holds the first nine and has three of the sample.
        ([*range(1, 10)], 3, {6: "2.500000", 7: "2.142857", 8: "1.875000"}),
    ],
)
def test_published_design_weights_are_the_probabilities_turned_over(revenue, n, weights):
    assert {unit: f"{float(1 / _probability(revenue, n, unit)):.6f}" for unit in weights} == weights
