"""Sentences that never repeat: who does what, where and when, in five languages.

Each language has five lists of twenty phrases, 3.2 million sentences. A number is turned into one
choice per list by a permutation, so two numbers never give the same sentence.
"""

import math

import numpy as np

_PHRASES = {
    "en": (
        "the old teacher, my brother, a young doctor, the quiet farmer, our neighbour, "
        "the tall waiter, her cousin, the mayor, a curious child, the night nurse, the pilot, "
        "his grandmother, a careful driver, the new student, the fisherman, their uncle, "
        "the village baker, a tired singer, the chief engineer, the librarian",
        "sells, paints, carries, finds, describes, repairs, hides, borrows, washes, remembers, "
        "photographs, buys, forgets, weighs, counts, moves, draws, keeps, shows, collects",
        "a green basket, the heavy boxes, seven silver spoons, an empty bottle, the wooden chair, "
        "two old letters, the yellow umbrella, a broken clock, the winter coats, some fresh bread, "
        "a pair of shoes, the garden tools, nine blue plates, the leather bag, an open book, "
        "the paper flowers, a small mirror, the brass keys, many strange maps, the white horse",
        "at the market, behind the church, near the river, in the kitchen, on the long bridge, "
        "under the oak tree, beside the station, in front of the school, at the harbour, "
        "inside the museum, on the hill, next to the fountain, in the old town, by the window, "
        "outside the theatre, along the beach, in a small hotel, at the airport, "
        "between the houses, across the street",
        "every morning, before noon, after dinner, on Tuesday, in the spring, around midnight, "
        "at half past four, since last year, during the storm, twice a week, without a word, "
        "once again, on holidays, at sunrise, for three days, in late summer, until Friday, "
        "almost every day, in October, with great joy",
    ),
    "de": (
        "der alte Lehrer, mein Bruder, die junge Ärztin, ein stiller Bauer, unsere Nachbarin, "
        "der lange Kellner, ihre Tante, der Bürgermeister, ein neugieriges Kind, die Köchin, "
        "der Pilot, seine Großmutter, eine vorsichtige Fahrerin, der neue Schüler, der Fischer, "
        "ihr Onkel, die Bäckerin, ein müder Sänger, die Ingenieurin, der Förster",
        "verkauft, malt, trägt, findet, beschreibt, putzt, versteckt, holt, wäscht, sucht, "
        "fotografiert, kauft, vergisst, wiegt, zählt, bewegt, zeichnet, behält, zeigt, sammelt",
        "einen grünen Korb, die schweren Kisten, sieben silberne Löffel, eine leere Flasche, "
        "den Holzstuhl, zwei alte Briefe, den gelben Schirm, eine kaputte Uhr, die Wintermäntel, "
        "frisches Brot, ein Paar Schuhe, das Werkzeug, neun blaue Teller, die Ledertasche, "
        "ein offenes Buch, die Papierblumen, einen kleinen Spiegel, die Schlüssel, "
        "viele seltsame Karten, das weiße Pferd",
        "auf dem Markt, hinter der Kirche, nahe am Fluss, in der Küche, auf der langen Brücke, "
        "unter der Eiche, neben dem Bahnhof, vor der Schule, am Hafen, im Museum, auf dem Hügel, "
        "neben dem Brunnen, in der Altstadt, am Fenster, vor dem Theater, am Strand, "
        "in einem Hotel, am Flughafen, zwischen den Häusern, auf der anderen Straßenseite",
        "jeden Morgen, vor dem Mittag, nach dem Essen, am Dienstag, im Frühling, um Mitternacht, "
        "um halb fünf, seit letztem Jahr, während des Sturms, zweimal pro Woche, ohne ein Wort, "
        "noch einmal, in den Ferien, bei Sonnenaufgang, drei Tage lang, im Spätsommer, "
        "bis Freitag, fast jeden Tag, im Oktober, mit großer Freude",
    ),
    "fr": (
        "le vieux professeur, mon frère, une jeune médecin, le paysan tranquille, notre voisine, "
        "le grand serveur, sa cousine, la mairesse, un enfant curieux, l'infirmière, le pilote, "
        "sa grand-mère, un chauffeur prudent, la nouvelle élève, le pêcheur, leur oncle, "
        "la boulangère, un chanteur fatigué, l'ingénieur en chef, la libraire",
        "vend, peint, porte, trouve, décrit, répare, cache, emprunte, lave, cherche, "
        "photographie, achète, oublie, pèse, compte, déplace, dessine, garde, montre, ramasse",
        "un panier vert, les caisses lourdes, sept cuillères en argent, une bouteille vide, "
        "la chaise en bois, deux vieilles lettres, le parapluie jaune, une horloge cassée, "
        "les manteaux d'hiver, du pain frais, une paire de chaussures, les outils du jardin, "
        "neuf assiettes bleues, le sac en cuir, un livre ouvert, les fleurs en papier, "
        "un petit miroir, les clés du garage, beaucoup de cartes, le cheval blanc",
        "au marché, derrière l'église, près de la rivière, dans la cuisine, sur le long pont, "
        "sous le chêne, à côté de la gare, devant l'école, au port, dans le musée, "
        "sur la colline, près de la fontaine, dans la vieille ville, à la fenêtre, "
        "devant le théâtre, le long de la plage, dans un petit hôtel, à l'aéroport, "
        "entre les maisons, de l'autre côté de la rue",
        "chaque matin, avant midi, après le dîner, le mardi, au printemps, vers minuit, "
        "à quatre heures et demie, depuis un an, pendant l'orage, deux fois par semaine, "
        "sans un mot, encore une fois, en vacances, au lever du soleil, pendant trois jours, "
        "à la fin de l'été, jusqu'à vendredi, presque tous les jours, en octobre, avec joie",
    ),
    "es": (
        "el viejo maestro, mi hermano, una joven doctora, el campesino callado, nuestra vecina, "
        "el camarero alto, su prima, el alcalde, un niño curioso, la enfermera, el piloto, "
        "su abuela, una conductora prudente, el nuevo alumno, el pescador, su tío Ramón, "
        "la panadera, un cantante cansado, la ingeniera, el bibliotecario",
        "vende, pinta, lleva, encuentra, describe, repara, esconde, limpia, lava, busca, "
        "fotografía, compra, olvida, pesa, cuenta, mueve, dibuja, guarda, enseña, recoge",
        "una cesta verde, las cajas pesadas, siete cucharas de plata, una botella vacía, "
        "la silla de madera, dos cartas antiguas, el paraguas amarillo, un reloj roto, "
        "los abrigos de invierno, un poco de pan, un par de zapatos, las herramientas, "
        "nueve platos azules, el bolso de cuero, un libro abierto, las flores de papel, "
        "un espejo pequeño, las llaves del coche, muchos mapas raros, el caballo blanco",
        "en el mercado, detrás de la iglesia, cerca del río, en la cocina, sobre el puente, "
        "bajo el roble, junto a la estación, delante de la escuela, en el puerto, en el museo, "
        "en la colina, al lado de la fuente, en el casco antiguo, junto a la ventana, "
        "frente al teatro, a lo largo de la playa, en un hotel pequeño, en el aeropuerto, "
        "entre las casas, al otro lado de la calle",
        "cada mañana, antes del mediodía, después de cenar, el martes, en primavera, "
        "a medianoche, a las cuatro y media, desde hace un año, durante la tormenta, "
        "dos veces por semana, sin decir nada, otra vez, en vacaciones, al amanecer, "
        "durante tres días, a finales de verano, hasta el viernes, casi todos los días, "
        "en octubre, con mucha alegría",
    ),
    "it": (
        "il vecchio maestro, mio fratello, una giovane dottoressa, il contadino, la vicina, "
        "il cameriere alto, sua cugina, il sindaco, un bambino curioso, l'infermiera, il pilota, "
        "sua nonna, un autista prudente, la nuova studentessa, il pescatore, lo zio Carlo, "
        "la fornaia, un cantante stanco, l'ingegnere capo, la bibliotecaria",
        "vende, dipinge, porta, trova, descrive, ripara, nasconde, chiede, lava, cerca, "
        "fotografa, compra, dimentica, pesa, conta, sposta, disegna, conserva, mostra, raccoglie",
        "un cesto verde, le scatole pesanti, sette cucchiai d'argento, una bottiglia vuota, "
        "la sedia di legno, due vecchie lettere, l'ombrello giallo, un orologio rotto, "
        "i cappotti invernali, del pane fresco, un paio di scarpe, gli attrezzi da giardino, "
        "nove piatti azzurri, la borsa di pelle, un libro aperto, i fiori di carta, "
        "un piccolo specchio, le chiavi di casa, molte strane mappe, il cavallo bianco",
        "al mercato, dietro la chiesa, vicino al fiume, in cucina, sul lungo ponte, "
        "sotto la quercia, accanto alla stazione, davanti alla scuola, al porto, nel museo, "
        "sulla collina, presso la fontana, nella città vecchia, alla finestra, "
        "fuori dal teatro, lungo la spiaggia, in un piccolo albergo, all'aeroporto, "
        "tra le case, dall'altra parte della strada",
        "ogni mattina, prima di mezzogiorno, dopo cena, di martedì, in primavera, "
        "verso mezzanotte, alle quattro e mezza, da un anno, durante il temporale, "
        "due volte a settimana, senza una parola, ancora una volta, in vacanza, all'alba, "
        "per tre giorni, a fine estate, fino a venerdì, quasi ogni giorno, in ottobre, "
        "con grande gioia",
    ),
}
SLOTS = {
    language: tuple(tuple(slot.split(", ")) for slot in slots)
    for language, slots in _PHRASES.items()
}
LANGUAGES = tuple(SLOTS)


def count(language: str) -> int:
    """How many different sentences a language has.

    >>> count("en")
    3200000
    """
    return math.prod(len(slot) for slot in SLOTS[language])


def sentence(language: str, number: int, seed: int = 0) -> str:
    """The sentence with that number; different numbers below `count` give different sentences.

    Args:
        language: one of `LANGUAGES`.
        number: 0 <= number < count(language).
        seed: another seed puts the same sentences into another order.

    >>> sentence("en", 1) == sentence("en", 1), sentence("en", 1) == sentence("en", 2)
    (True, False)
    """
    total = count(language)
    if not 0 <= number < total:
        raise ValueError(f"sentence {number} of {total} in {language!r}; ask for fewer speakers")
    rng = np.random.default_rng([seed, LANGUAGES.index(language)])
    # number -> factor * number + offset (mod total) is one to one if factor and total are coprime
    factor = int(rng.integers(total // 4, total // 2))
    while math.gcd(factor, total) > 1:
        factor += 1
    place = (factor * number + int(rng.integers(total))) % total
    words = []
    for slot in SLOTS[language]:
        place, choice = divmod(place, len(slot))
        words.append(slot[choice])
    text = " ".join(words)
    return text[0].upper() + text[1:] + "."
