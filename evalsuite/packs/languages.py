"""Short questions in six other languages, about counting and order, so that no answer needs judgement.

An answer is a number in digits, or one of the words that the question lists.
"""

from collections.abc import Mapping
from functools import partial
from random import Random
from typing import NamedTuple

from evalsuite.packs.draft import NAMES, Draft, Template


class Language(NamedTuple):
    """Words and sentences of one language. Numbers are 1 to 20; `later` and `place` list words to choose from."""

    numbers: tuple[str, ...]
    days: tuple[str, ...]  # from Monday on
    months: tuple[str, ...]
    sums: tuple[str, ...]  # of two number words {a} and {b}: added, and {a} times {b}
    bought: str  # {name} has {a} of something and buys {b} more
    given: str  # {name} had {b}, gave {a} away: what is left
    later: str  # which of {listed} follows {day}
    place: str  # which of {listed} is month number {n}
    letters: str  # how many letters has {word}


def _language(numbers: str, days: str, months: str, *sentences: str) -> Language:
    plus, times, *others = sentences
    return Language(tuple(numbers.split()), tuple(days.split()), tuple(months.split()), (plus, times), *others)


LANGUAGES: Mapping[str, Language] = {
    "german": _language(
        "eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
        "achtzehn neunzehn zwanzig",
        "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "Wie viel ist {a} plus {b}? Antworte in Ziffern.",
        "Wie viel ist {a} mal {b}? Antworte in Ziffern.",
        "{name} hat {a} Äpfel und kauft noch {b}. Wie viele Äpfel sind es nun? Antworte in Ziffern.",
        "Von {b} Büchern verschenkt {name} genau {a}. Wie viele bleiben übrig? Antworte in Ziffern.",
        "Welcher Tag kommt gleich nach {day}: {listed}? Antworte mit einem dieser Wörter.",
        "Welcher Monat ist Nummer {n} im Jahr: {listed}? Antworte mit einem dieser Wörter.",
        "Aus wie vielen Buchstaben besteht das Wort „{word}“? Antworte in Ziffern.",
    ),
    "french": _language(
        "un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit "
        "dix-neuf vingt",
        "lundi mardi mercredi jeudi vendredi samedi dimanche",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "Combien font {a} plus {b} ? Réponds en chiffres.",
        "Combien font {a} fois {b} ? Réponds en chiffres.",
        "{name} possède {a} pommes et en achète encore {b}. Combien de pommes cela fait-il ? Réponds en chiffres.",
        "Sur {b} livres, {name} en donne {a}. Combien en reste-t-il ? Réponds en chiffres.",
        "Quel jour vient juste après {day} : {listed} ? Réponds par un de ces mots.",
        "Quel mois porte le numéro {n} dans l'année : {listed} ? Réponds par un de ces mots.",
        "Combien de lettres compte le mot « {word} » ? Réponds en chiffres.",
    ),
    "spanish": _language(
        "uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
        "dieciocho diecinueve veinte",
        "lunes martes miércoles jueves viernes sábado domingo",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "¿Cuánto es {a} más {b}? Responde en cifras.",
        "¿Cuánto es {a} por {b}? Responde en cifras.",
        "{name} tiene {a} manzanas y compra otras {b}. ¿Cuántas manzanas son ahora? Responde en cifras.",
        "De {b} libros, {name} regala {a}. ¿Cuántos quedan? Responde en cifras.",
        "¿Qué día viene justo después de {day}: {listed}? Responde con una de estas palabras.",
        "¿Qué mes lleva el número {n} en el año: {listed}? Responde con una de estas palabras.",
        "¿Cuántas letras tiene la palabra «{word}»? Responde en cifras.",
    ),
    "italian": _language(
        "uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici sedici "
        "diciassette diciotto diciannove venti",
        "lunedì martedì mercoledì giovedì venerdì sabato domenica",
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
        "Quanto fa {a} più {b}? Rispondi in cifre.",
        "Quanto fa {a} per {b}? Rispondi in cifre.",
        "{name} ha {a} mele e ne compra altre {b}. Quante mele sono adesso? Rispondi in cifre.",
        "Di {b} libri {name} ne regala {a}. Quanti ne restano? Rispondi in cifre.",
        "Quale giorno viene subito dopo {day}: {listed}? Rispondi con una di queste parole.",
        "Quale mese è il numero {n} dell'anno: {listed}? Rispondi con una di queste parole.",
        "Di quante lettere è fatta la parola «{word}»? Rispondi in cifre.",
    ),
    "portuguese": _language(
        "um dois três quatro cinco seis sete oito nove dez onze doze treze catorze quinze dezasseis dezassete dezoito "
        "dezanove vinte",
        "segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado domingo",
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "Quanto é {a} mais {b}? Responde em algarismos.",
        "Quanto é {a} vezes {b}? Responde em algarismos.",
        "Num cesto estão {a} limões; {name} põe lá mais {b}. Quantos limões são agora? Responde em algarismos.",
        "De {b} livros, {name} oferece {a}. Quantos sobram? Responde em algarismos.",
        "Que dia vem logo depois de {day}: {listed}? Responde com uma destas palavras.",
        "Que mês tem o número {n} no ano: {listed}? Responde com uma destas palavras.",
        "Quantas letras tem a palavra «{word}»? Responde em algarismos.",
    ),
    "dutch": _language(
        "een twee drie vier vijf zes zeven acht negen tien elf twaalf dertien veertien vijftien zestien zeventien "
        "achttien negentien twintig",
        "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
        "januari februari maart april mei juni juli augustus september oktober november december",
        "Hoeveel is {a} plus {b}? Antwoord in cijfers.",
        "Hoeveel is {a} keer {b}? Antwoord in cijfers.",
        "{name} heeft {a} appels en koopt er nog {b}. Hoeveel appels zijn dat nu? Antwoord in cijfers.",
        "Van {b} boeken geeft {name} er {a} weg. Hoeveel blijven er over? Antwoord in cijfers.",
        "Welke dag komt meteen na {day}: {listed}? Antwoord met een van deze woorden.",
        "Welke maand is nummer {n} van het jaar: {listed}? Antwoord met een van deze woorden.",
        "Uit hoeveel letters bestaat het woord „{word}”? Antwoord in cijfers.",
    ),
}


def count(language: Language, r: Random) -> Draft:
    """Two number words from three to twenty: added, taken away, multiplied, or in a sentence."""
    a, b = sorted(r.sample(range(3, 21), 2))
    wordings = (
        (language.sums[0], a + b),
        (language.sums[1], a * b),
        (language.bought, a + b),
        (language.given, b - a),
    )
    sentence, value = r.choice(wordings)
    said = sentence.format(a=language.numbers[a - 1], b=language.numbers[b - 1], name=r.choice(NAMES))
    return Draft(said, str(value))


def word(language: Language, r: Random) -> Draft:
    """The day after a day, a month by its number, or the letters of a word."""
    which = r.randrange(3)
    if which == 2:
        plain = [w for w in (*language.numbers, *language.days, *language.months) if w.isalpha()]
        said = r.choice(plain)
        return Draft(language.letters.format(word=said), str(len(said)))
    words, at = (language.days, r.randrange(7)) if which else (language.months, r.randrange(12))
    answer = words[(at + 1) % 7] if which else words[at]
    options = [answer, *r.sample([w for w in words if w not in {answer, words[at]}], 3)]
    r.shuffle(options)
    sentence = language.later if which else language.place
    return Draft(sentence.format(day=words[at], n=at + 1, listed=", ".join(options)), answer, "exact", 0.25)


TEMPLATES: Mapping[str, Template] = {
    f"{name}.{each.__name__}": partial(each, language) for each in (count, word) for name, language in LANGUAGES.items()
}
